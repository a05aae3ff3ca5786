"""docker-compose 1.29 reads the same file: up, scaled, and down."""

from __future__ import annotations

from tests.compose.stack import Stack, until


def test_it_runs_under_docker_compose_1(former_stack: Stack) -> None:
    """Refused without secrets; with them rows arrive, consumers are scaled, and the audit passes."""
    stack = former_stack
    refused = stack.run("up", "-d", check=False)
    assert refused.returncode != 0
    assert "make secrets" in refused.stderr
    stack.make_secrets()
    stack.run("--profile", "redash", "--profile", "metrics", "config", "-q")
    stack.up("--build", "--scale", "consumer=3", RATE="50")
    until(lambda: len(stack.status()["consumers"]) == 3, "three consumers")
    until(lambda: stack.status()["rows"] > 100, "rows")
    stack.up("--scale", "consumer=1", "--no-recreate")
    stack.audited()
    # Every part ends in order, before what it depends on.
    stack.run("stop", "--timeout", "60")
