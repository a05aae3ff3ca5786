"""The commands, as somebody runs them: what they print, how they end, and that they tell no secret."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import commands
from tests.redash.fake import Fake
from tests.redash.sample import ANSWERS, QUERY, files
from tests.redash.sql import Canned

DATABASE = "postgresql://infamous_bi:hidden-word@db/infamous"


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A Redash that was set up a moment ago."""
    with Fake(canned=Canned()) as running:
        for part, answer in ANSWERS.items():
            running.give(part, answer)
        yield running


class Shell:
    """A folder of files, and an environment that names the Redash."""

    def __init__(self, fake: Fake, folder: Path) -> None:
        self.fake, self.folder = fake, folder
        self.environment = {
            **os.environ,
            "REDASH_URL": fake.url,
            "REDASH_API_KEY": fake.admin_key,
            "REDASH_SOURCE_URL": DATABASE,
            "LOG_LEVEL": "debug",
        }

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """`infamous redash ...`; nothing that it prints is a secret."""
        done = commands.run(
            "infamous",
            "redash",
            *arguments,
            cwd=self.folder,
            environment={**self.environment, **more},
        )
        for secret in (*self.fake.secrets, "hidden-word"):
            assert secret not in done.stdout + done.stderr
        return done


@pytest.fixture
def shell(fake: Fake, tmp_path: Path) -> Shell:
    """The sample's files, and nothing of them in Redash."""
    return Shell(fake, files(tmp_path))


def test_plan_apply_and_plan(shell: Shell) -> None:
    """What the plan shows is made, with the pages' addresses, and then there is nothing left to do."""
    first = shell.run("plan", "--from", ".")
    assert first.stdout.splitlines() == [
        "create data source",
        "create  query     Days [last_days]: 1 visualization, run it",
        "create  query     Daily actives [daily_actives]: 2 visualizations, 1 alert, run it",
        "create  dashboard Players [players]: 3 widgets",
        "4 to make, 0 to change, 0 to archive.",
    ]
    applied = shell.run("apply", "--from", ".", REDASH_PUBLIC_URL="http://localhost:5001/")
    assert applied.returncode == 0
    assert applied.stdout.splitlines() == [
        "3 changes.",
        "http://localhost:5001/dashboards/1  Players",
    ]
    assert shell.run("plan", "--from", ".").stdout == "Redash has all that the files say.\n"
    again = shell.run("apply", "--from", ".")
    assert again.stdout.splitlines()[0] == "Redash had all that the files say."
    shown = shell.run("open", "--no-browser")
    assert shown.stdout == f"{shell.fake.url}/dashboards/1  Players\n"


def test_a_plan_shows_what_differs(shell: Shell) -> None:
    """Field by field, with what somebody did by hand named as such; for scripts as JSON."""
    shell.run("apply", "--from", ".")
    headers = {"name": "Changed there"}
    with_key = {"Authorization": f"Key {shell.fake.admin_key}"}
    _post(f"{shell.fake.url}/api/queries/2", headers, with_key)
    changed = QUERY.replace("type: area", "type: line")
    files(shell.folder, **{"daily_actives.sql": changed})
    lines = shell.run("plan", "--from", ".").stdout.splitlines()
    assert lines == [
        "change  query     Daily actives [daily_actives]",
        '    name: "Changed there" -> "Daily actives" (changed by hand)',
        "    change visualization Active players",
        "        options differs in globalSeriesType, seriesOptions",
        "0 to make, 1 to change, 0 to archive.",
    ]
    told = json.loads(shell.run("plan", "--from", ".", "--json").stdout)
    assert told["changes"][0]["differences"][0] == {
        "field": "name",
        "before": "Changed there",
        "after": "Daily actives",
        "by_hand": True,
    }
    drift = shell.run("drift")
    assert drift.returncode == 1
    assert drift.stdout.splitlines() == [
        f"query Changed there [daily_actives]: {shell.fake.url}/queries/2",
        "    name was changed",
    ]
    assert json.loads(shell.run("drift", "--json").stdout)[0]["what"] == "name was changed"
    shell.run("apply", "--from", ".")
    assert shell.run("drift").stdout == "Nothing was changed by hand.\n"


def _post(url: str, body: object, headers: dict[str, str]) -> None:
    import urllib3

    answer = urllib3.request("POST", url, json=body, headers=headers)
    assert answer.status == 200


def test_export_writes_files(shell: Shell) -> None:
    """What is in Redash comes back as files that an apply has nothing to do with."""
    shell.run("apply", "--from", ".")
    done = shell.run("export", "other")
    assert done.stdout.splitlines() == [
        "other/last_days.sql",
        "other/daily_actives.sql",
        "other/dashboards/players.yaml",
        "3 files written.",
    ]
    assert shell.run("export", ".").stdout == "The files say all of it already.\n"
    # Which columns were promised is in the first files alone.
    assert shell.run("plan", "--from", "other").stdout == "Redash has all that the files say.\n"


@pytest.mark.parametrize(
    ("arguments", "more", "code", "said"),
    [
        (["plan", "--from", "."], {"REDASH_URL": ""}, 2, "REDASH_URL and REDASH_API_KEY must name"),
        (["plan", "--from", "nowhere"], {}, 2, "nowhere has no query: name a folder"),
        (["plan", "--from", "."], {"REDASH_URL": "http://127.0.0.1:1"}, 1, "does not answer"),
        (["drift"], {"REDASH_API_KEY": "wrong"}, 1, "does not know REDASH_API_KEY"),
        (["export", "x", "--dashboard", "7"], {}, 1, "Redash has no dashboard 7"),
        (["open"], {}, 1, "Redash has no dashboard of ours: run `infamous redash apply`"),
        (["export", "x"], {}, 1, "Redash has nothing of ours: --dashboard NUMBER takes anybody's"),
        (
            ["plan", "--from", "."],
            {"REDASH_URL": "http://me:hidden-word@127.0.0.1"},
            1,
            "an address alone",
        ),
        (["plan", "--from", "."], {"REDASH_URL": "hidden-word"}, 1, "must be an address such as"),
        (["plan", "--from", "."], {"REDASH_URL": "http://[::1"}, 1, "must be an address such as"),
        (
            ["plan", "--from", "."],
            {"REDASH_SOURCE_URL": "postgresql://me:hidden-word/x@db/name"},
            1,
            "REDASH_SOURCE_URL must be an address such as",
        ),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    shell: Shell, arguments: list[str], more: dict[str, str], code: int, said: str
) -> None:
    """One line, what to do, and the exit code of the house."""
    done = shell.run(*arguments, **more)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_file_that_is_wrong_is_told_with_its_line(shell: Shell) -> None:
    """Before anything is asked of Redash."""
    text = QUERY.replace("x: day", "x: dya")
    files(shell.folder, **{"daily_actives.sql": text})
    done = shell.run("apply", "--from", ".")
    assert done.returncode == 2
    assert "daily_actives.sql:9: the query promises no column `dya`" in done.stderr
    assert shell.fake.requests == []


def test_a_query_that_fails_is_told(shell: Shell) -> None:
    """With its file and Redash's words; the rest is there."""
    shell.fake.give("new_players", 'relation "days" does not exist')
    done = shell.run("apply", "--from", ".")
    assert done.returncode == 1
    assert 'daily_actives.sql does not run in Redash: relation "days" does not exist' in done.stdout
    assert done.stderr.strip() == "Mend these queries, or what they ask, and run it again."


def test_names_in_redash_cannot_write_to_the_terminal(shell: Shell) -> None:
    """Anybody there may call a page what they like, also with what moves the cursor or begins a line."""
    shell.run("apply", "--from", ".")
    with_key = {"Authorization": f"Key {shell.fake.admin_key}"}
    _post(f"{shell.fake.url}/api/dashboards/1", {"name": "A\x1b[2J\nB"}, with_key)
    for arguments in (["open", "--no-browser"], ["drift"], ["plan", "--from", "."]):
        said = shell.run(*arguments).stdout
        assert "\x1b" not in said
        assert "\nB" not in said


def test_a_redash_that_is_not_up_yet_is_waited_for(shell: Shell) -> None:
    """As long as was said: the dashboards' container may be quicker than Redash."""
    shell.fake.refuse("GET", "/api/session", 503, "starting", times=7)
    assert shell.run("apply", "--from", ".", "--wait", "30").returncode == 0
