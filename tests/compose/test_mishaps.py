"""What goes wrong before a stack is whole: each is told in a sentence, where the one who started it looks."""

from __future__ import annotations

from tests.compose.stack import Stack, until


def test_a_first_start_that_was_cut_off_is_told(stack: Stack) -> None:
    """A folder that Postgres only began to make is not taken for a database without tables."""
    stack.make_secrets()
    begun = "echo 17 > /var/lib/postgresql/data/PG_VERSION"
    stack.run("run", "--rm", "-T", "--no-deps", "--entrypoint", "sh", "postgres", "-c", begun)
    stack.run("up", "-d", "postgres")
    until(
        lambda: "is not marked as whole" in stack.run("logs", "postgres").stdout,
        "the sentence",
    )
    # Another server's volume may be full of events: what to do must never take all of them.
    assert "down -v" not in stack.run("logs", "postgres").stdout
    stack.down()


def test_an_empty_secret_is_told(stack: Stack) -> None:
    """By name, and with what makes a new one."""
    stack.make_secrets()
    secret = stack.folder / "secrets" / "redis_url_consumer"
    secret.unlink()
    secret.touch(0o444)
    stack.run("up", "-d", "redis")
    until(
        lambda: "redis_url_consumer is no URL" in stack.run("logs", "redis").stdout, "the sentence"
    )
    stack.down()
    stack.make_secrets()
    stack.run("up", "-d", "--wait", "redis")


def test_the_command_line_says_that_nothing_runs(stack: Stack) -> None:
    """It starts nothing: it says which server is away."""
    stack.down()
    stack.make_secrets()
    done = stack.infamous("status", check=False)
    assert done.returncode == 1
    assert "Postgres cannot be used" in done.stderr or "Redis cannot be used" in done.stderr
    assert stack.containers() == []
