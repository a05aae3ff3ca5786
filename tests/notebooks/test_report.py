"""The report on real servers: of any past, with notebooks that fail, in folders that do not take it."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest
from sqlalchemy import Engine, make_url

from analytics.period import Period, ending
from analytics.report import shelf
from analytics.report.extract import Plot, Sentence
from analytics.report.freshness import freshness
from analytics.report.headline import Number, headline
from analytics.report.make import NOTEBOOKS, Made
from analytics.report.page import page
from analytics.report.run import Ran, run
from analytics.report.shelf import CannotWrite
from analytics.words import literal
from infamous.embedded.servers import Servers
from pipeline.event import Event
from pipeline.patience import Stopped
from producer.simulate import DAY_MS, history, population
from producer.truth import SESSION_GAP_MS
from tests.conftest import World, world_of
from tests.integration import dashboards
from tests.integration.consuming import now_ms, until
from tests.integration.test_roles import url_of
from tests.notebooks import pages, planted
from tests.unit.samples import chains
from tests.unit.test_report_page import FRESH, HOSTILE, NOTHING, Looked, assert_lifeless

WEEK: Final = ending(planted.LAST, 7)
MINUTE_MS: Final = 60_000


# --- the numbers at the top


def recounted(period: Period) -> dict[str, float | None]:
    """What the headline's numbers should be, counted from the events by themselves."""
    days = {name: sorted({day(e) for e in mine}) for name, mine in by_player().items()}
    active = {name: set(ds) for name, ds in days.items() if any(within(period, d) for d in ds)}
    sessions = [s for mine in by_player().values() for s in split(mine)]
    begun = [s for s in sessions if within(period, day(s[0]))]
    inside = [e for e in planted.events() if within(period, day(e))]
    last = {e.player: e.karma_total for e in inside}
    next_days = {name: ds[0] + timedelta(days=1) for name, ds in days.items()}
    due = [name for name, next_day in next_days.items() if within(period, next_day)]
    return {
        "Active players": len(active),
        "New players": sum(within(period, ds[0]) for ds in days.values()),
        "Return on the next day": sum(next_days[n] in days[n] for n in due) / len(due)
        if due
        else None,
        "Sessions": len(begun),
        "Hours played": sum(s[-1].ts_ms - s[0].ts_ms for s in begun) / 3_600_000,
        "Events": len(inside),
        "Missions completed": sum(e.action == "mission_complete" for e in inside),
        "XP earned": sum(e.xp_delta for e in inside if e.action != "ability_upgrade"),
        "Heroes": sum(karma >= 15 for karma in last.values()) / len(last) if last else None,
    }


def by_player() -> dict[str, list[Event]]:
    """Each player's events, in their order."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in planted.events():
        found[event.player].append(event)
    return found


def split(events: list[Event]) -> Iterator[list[Event]]:
    """Sessions: what a pause of over half an hour ends."""
    session = [events[0]]
    for event in events[1:]:
        if event.ts_ms - session[-1].ts_ms > SESSION_GAP_MS:
            yield session
            session = []
        session.append(event)
    yield session


def day(event: Event) -> date:
    """The UTC day of an event."""
    return datetime.fromtimestamp(event.ts_ms / 1000, UTC).date()


def within(period: Period, some_day: date) -> bool:
    """Whether it is one of the period's."""
    return period.first <= some_day <= period.last


def values(numbers: tuple[Number, ...]) -> dict[str, float | None]:
    """By label."""
    return {number.label: number.value for number in numbers}


def test_the_numbers_are_those_of_the_events(engine: Engine) -> None:
    """Of a week and of the one before it, counted without any SQL."""
    found = headline(engine, WEEK)
    assert found.compared == WEEK.before
    assert values(found.numbers) == pytest.approx(recounted(WEEK))
    before = {number.label: number.before for number in found.numbers}
    assert before == pytest.approx(recounted(WEEK.before))
    assert all(value for value in before.values())


def test_the_numbers_of_all_days_are_what_the_simulator_counted(engine: Engine) -> None:
    """Of the whole history nothing is cut off, and there is nothing before it to compare with."""
    found = headline(engine, planted.ALL)
    assert found.compared is None
    told, realised = values(found.numbers), planted.known()["realised"]
    assert told["Active players"] == told["New players"] == len(by_player())
    assert told["Events"] == realised["events"]
    assert told["Missions completed"] == realised["events_by_action"]["mission_complete"]
    assert told["XP earned"] == sum(
        xp
        for action, xp in realised["xp"]["earned_by_action"].items()
        if action != "ability_upgrade"
    )
    assert told["Sessions"] == realised["sessions"]["count"]
    hours = realised["sessions"]["count"] * realised["sessions"]["mean_length_s"] / 3600
    assert told["Hours played"] == pytest.approx(hours, rel=1e-4)
    next_day = realised["retention"]["all"][1]
    assert told["Return on the next day"] == next_day["active"] / next_day["eligible"]


def test_days_of_which_nothing_is_known_have_numbers(engine: Engine) -> None:
    """Long before the first event: none of anything, and no share of nothing."""
    found = values(headline(engine, ending(date(2001, 1, 7), 7)).numbers)
    assert found.pop("Return on the next day") is None
    assert found.pop("Heroes") is None
    assert set(found.values()) == {0.0}


# --- any past


def looked(report: Made) -> Looked:
    """Its page."""
    return Looked(report.path.read_text(encoding="utf-8"))


def assert_sensible(report: Made) -> Looked:
    """Every notebook came to its end, and nothing on the page runs, leads away or is nameless."""
    assert [ran.section.failure for ran in report.notebooks] == [None] * len(report.notebooks)
    assert len(report.notebooks) == len(list(NOTEBOOKS.glob("*.ipynb")))
    found = looked(report)
    assert_lifeless(found)
    assert all(one["alt"] for one in found.of("img"))
    assert "nan" not in re.findall(r"\b\w+\b", found.text.lower())
    return found


def test_the_planted_week(planted_world: World, tmp_path: Path) -> None:
    """The last whole days, each notebook in the order of its name, with what it found and how it looks."""
    report = pages.made(planted_world, tmp_path)
    assert report.period == WEEK
    found = assert_sensible(report)
    names = [ran.section.name for ran in report.notebooks]
    assert names == sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    told = [ran.section for ran in report.notebooks if not ran.section.is_silent]
    assert len(list(found.of("img"))) >= len(told) > 0
    assert all(section.findings for section in told)
    # Titles are text above the plots.
    assert all((one["alt"] or "?") in found.text for one in found.of("img"))
    assert "beside the 7 days before" in found.text
    assert f"{round(recounted(WEEK)['Events'] or 0):,}" in found.text
    assert report.peak_bytes is not None
    assert 50_000_000 < report.peak_bytes < 2_000_000_000
    assert (tmp_path / shelf.LATEST).read_bytes() == report.path.read_bytes()


def test_an_empty_database(servers: Servers, template: str, tmp_path: Path) -> None:
    """Before the first event: today, without numbers, which it says at the top."""
    with world_of(servers, template) as world:
        report = pages.made(world, tmp_path)
    assert report.period.last == datetime.now(UTC).date()
    found = assert_sensible(report)
    assert "There is no event yet" in found.text
    assert "there is nothing to compare with" in found.text


def test_one_event(servers: Servers, template: str, tmp_path: Path) -> None:
    """Of today: today is the last day, since there is no other."""
    with pages.rolled_up(servers, template, chains(1, start_ms=now_ms() - 1000)) as world:
        report = pages.made(world, tmp_path)
    assert report.period.last == datetime.now(UTC).date()
    found = assert_sensible(report)
    assert "The newest event is of" in found.text


def lonely(days: int, until_ms: int) -> list[Event]:
    """What one player did in so many days."""
    start_ms = until_ms - days * DAY_MS
    return [event for _, event in history(population(3, 1, start_ms, days), until_ms)]


def test_one_player(servers: Servers, template: str, tmp_path: Path) -> None:
    """Everything is his: no mean needs company."""
    with pages.rolled_up(
        servers, template, lonely(20, planted.START_MS + planted.DAYS * DAY_MS)
    ) as world:
        report = pages.made(world, tmp_path)
        numbers = values(headline(world.engine, report.period).numbers)
    assert report.period == WEEK
    assert_sensible(report)
    assert numbers["Active players"] == 1.0


def test_a_week_without_events(servers: Servers, template: str, tmp_path: Path) -> None:
    """Everybody was away for the whole period: it is one of zeros, beside a week that had more."""
    gone_ms = planted.START_MS + (planted.DAYS - 7) * DAY_MS
    played = [event for _, event in history(population(3, 20, gone_ms - 20 * DAY_MS, 20), gone_ms)]
    with pages.rolled_up(servers, template, played) as world:
        report = pages.made(world, tmp_path)
    assert report.period == WEEK
    found = assert_sensible(report)
    assert re.search(r"The newest event is [78] days old: since then nobody played", found.text)
    assert "down from" in found.text


def test_what_is_not_rolled_up_yet_is_told(servers: Servers, template: str) -> None:
    """Events are there and the rollups are not: the page would be empty without a reason."""
    with world_of(servers, template) as world:
        dashboards.store(world, chains(50, start_ms=now_ms() - 3 * 3_600_000))
        reached = freshness(world.engine)
        today = datetime.now(UTC).date()
        assert (reached.awaits_hours, reached.has_whole_days) == (1, False)
        assert any("not rolled up yet" in told for told in reached.warnings(ending(today, 7)))
        dashboards.roll_up(world)
        reached = freshness(world.engine)
        assert (reached.awaits_hours, reached.has_whole_days) == (0, True)


# --- notebooks that fail


def ran(
    world: World, *notebooks: Path, stop: threading.Event | None = None, **limits: float
) -> list[Ran]:
    """What came of these."""
    return run(
        notebooks,
        url_with_password(world),
        WEEK,
        stop=stop or threading.Event(),
        tell=lambda *_: None,
        **limits,
    )


def url_with_password(world: World) -> str:
    """With a password in it, as outside."""
    return url_of(world, "infamous_bi")


SAY: Final = "from analytics import notebook; notebook.say('It *works*.')"


def test_a_notebook_that_fails_takes_no_other_along(world: World, tmp_path: Path) -> None:
    """Each says why in a sentence, without a trace or a password; what it had shown before is shown."""
    notebooks = [
        pages.write(tmp_path, "1-fails", SAY, "import os\nraise KeyError(os.environ['DATABASE_URL'][11:])"),
        pages.write(tmp_path, "2-killed", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
        pages.write(tmp_path, "3-says-much", "raise ValueError('one\\ntwo https://x/' + 9999 * 'x')"),
        pages.write(tmp_path, "4-says-nothing", "raise RuntimeError"),
        pages.write(tmp_path, "5-is-wrong", "this is no Python"),
        tmp_path / "6-is-none.ipynb",
        pages.write(tmp_path, "7-works", SAY),
    ]  # fmt: skip
    notebooks[5].write_text("{")
    found = ran(world, *notebooks)
    assert [one.section.name for one in found] == [path.stem for path in notebooks]
    reasons = [one.section.failure or "" for one in found]
    assert re.fullmatch(r"It failed: KeyError: 'psycopg2://infamous_bi:\.\.\.@/.*'\.", reasons[0])
    assert reasons[1:4] == [
        "Its process was killed, as it is where memory runs out.",
        "It failed: ValueError: one.",
        "It failed: RuntimeError.",
    ]
    assert reasons[4].startswith("It failed: SyntaxError: invalid syntax")
    assert reasons[5].startswith("It failed: ")
    assert reasons[6] == ""
    assert all("\n" not in reason and "Traceback" not in reason for reason in reasons)
    assert all("for this test" not in reason and "for%20this" not in reason for reason in reasons)
    shown = [[one.text for one in r.section.shown] for r in found]  # type: ignore[union-attr]
    assert shown == [[literal("It *works*.")], [], [], [], [], [], [literal("It *works*.")]]


def test_no_password_is_told_wherever_it_stands(world: World, tmp_path: Path) -> None:
    """After the question mark, too, and as it is as well as it is written."""
    url = make_url(url_with_password(world)).set(password=None)
    url = url.update_query_dict({"password": "for this test"})
    code = "from sqlalchemy import make_url\nimport os\nurl = os.environ['DATABASE_URL']\n"
    code += "raise KeyError(url[9:], make_url(url).query['password'])"
    notebook = pages.write(tmp_path, "1", code)
    (found,) = run(
        [notebook],
        url.render_as_string(hide_password=False),
        WEEK,
        stop=threading.Event(),
        tell=lambda *_: None,
    )
    assert "password=..." in (found.section.failure or "")
    assert (found.section.failure or "").endswith("'...').")
    assert "this" not in (found.section.failure or "")


def test_a_notebook_without_an_end_has_one(world: World, tmp_path: Path) -> None:
    """After its time it is ended, and so is one that waits in the database; what is last has none left."""
    forever = pages.write(tmp_path, "1-waits", "import threading\nthreading.Event().wait()")
    (found,) = ran(world, forever, each_s=2.5)
    assert found.section.failure == "It took longer than 2.5 s and was ended."
    (found,) = ran(world, forever, all_s=0.0)
    assert found.section.failure == "There was no time left for it."


def test_a_notebook_may_print_any_amount(world: World, tmp_path: Path) -> None:
    """It is on no page: whoever runs the notebook does not keep it, and stays as small as before."""
    much = pages.write(tmp_path, "1", "print(100_000_000 * 'x')")
    told = subprocess.run(
        [sys.executable, "-P", "-c", RUNS + PEAK, world.database_url, str(much)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) * 1024 < 200_000_000


def test_a_folder_for_temporary_files_has_any_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of sockets are so many bytes, of which a letter may be two."""
    with tempfile.TemporaryDirectory(prefix=38 * "ü") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        (found,) = ran(world, pages.write(tmp_path, "1", SAY))
    assert found.section.failure is None


def test_a_kernel_is_of_this_python_and_knows_of_the_database_alone(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever kernels and profiles its user has, and whatever else we were told."""
    for name in ("HOME", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "no")
    spec = tmp_path / "home" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["/bin/false"], "display_name": "x"}')
    startup = tmp_path / "home" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "0.py").write_text("raise SystemExit")
    for name in ("REDIS_URL", "REDASH_API_KEY_FILE", "MIGRATOR_DATABASE_URL"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("MPLBACKEND", "of a desktop")
    code = """
    import os, sys
    from analytics import notebook
    known = {name for name, value in os.environ.items() if value == "secret" or "BASE_URL" in name}
    nb = notebook.start(3)
    notebook.say(f"{sys.executable} {known} {nb.period} {nb.engine.url.username}")
    """
    (found,) = ran(
        world, pages.write(tmp_path, "1", "\n".join(line[4:] for line in code.split("\n")))
    )
    assert found.section.failure is None
    (sentence,) = found.section.shown
    told = f"{sys.executable} {{'DATABASE_URL'}} {WEEK} infamous_bi"
    assert sentence == Sentence(literal(told))


# --- names that players gave


def test_a_name_in_a_sentence_is_read_and_not_obeyed(world: World, tmp_path: Path) -> None:
    """JupyterLab trusts what a cell shows: no tag, no link and no picture begins in it; the page shows it as
    it is.
    """
    code = f"from analytics import notebook\nfor name in {HOSTILE!r}:\n    notebook.say(name)"
    (found,) = ran(world, pages.write(tmp_path, "1", code))
    told = [one.text for one in found.section.shown if isinstance(one, Sentence)]
    assert len(told) == len(HOSTILE)
    assert not [text for text in told if re.search(r"[<\[]|&(?!#\d+;)", text)]
    text = Looked(page(WEEK, FRESH, NOTHING, [found.section])).text
    assert [name for name in HOSTILE if name not in text] == []


def test_a_picture_holds_whatever_the_database_does(world: World, tmp_path: Path) -> None:
    """A mission's name may have characters that XML has not: a browser would show nothing of the plot."""
    code = """
from analytics import notebook
from analytics.plots import style
axes = style.canvas()
axes.bar(["a\\x01b\\x1bc\\ufffe"], [1])
notebook.show(style.headed(axes, "A title"))
"""
    (found,) = ran(world, pages.write(tmp_path, "1", code))
    (plot,) = found.section.shown
    assert isinstance(plot, Plot)
    drawn = ET.fromstring(plot.svg)  # noqa: S314  # our own
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"


# --- a run that is stopped

WAITS: Final = """
import os, pathlib, threading
place = pathlib.Path({place!r})
(place / f"{{os.getpid()}}.tmp").write_text(os.getcwd())
(place / f"{{os.getpid()}}.tmp").rename(place / f"{{os.getpid()}}.started")
threading.Event().wait()
"""


def waiting(folder: Path, count: int) -> list[Path]:
    """Notebooks that say so once they run, and then wait for ever."""
    code = WAITS.format(place=str(folder))
    return [pages.write(folder, f"{number}", code) for number in range(count)]


def started(folder: Path) -> list[Path]:
    """Who has said so."""
    return list(folder.glob("*.started"))


def test_a_run_that_is_stopped_leaves_nothing(world: World, tmp_path: Path) -> None:
    """Two run at a time; both are gone, with the folders they worked in, and the third never began."""
    stop = threading.Event()

    def stop_in_the_middle() -> None:
        until(lambda: len(started(tmp_path)) == 2, "two kernels to run")
        stop.set()

    other = threading.Thread(target=stop_in_the_middle)
    other.start()
    with pytest.raises(Stopped):
        ran(world, *waiting(tmp_path, 3), stop=stop)
    other.join()
    assert len(started(tmp_path)) == 2
    for told in started(tmp_path):
        assert not pages.lives(int(told.stem))
        assert not Path(told.read_text()).parent.exists()


RUNS: Final = """
import pathlib, sys, threading
from analytics.period import ending
from analytics.report.run import run
from datetime import date
notebooks = [pathlib.Path(path) for path in sys.argv[2:]]
week = ending(date(2026, 11, 28), 7)
run(notebooks, sys.argv[1], week, stop=threading.Event(), tell=lambda *_: None)
"""
PEAK: Final = "print(pathlib.Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
# A library that is asked too much, and lets no other thread of Python run meanwhile.
BUSY: Final = WAITS.replace(
    "threading.Event().wait()", "__import__('re').match('(a+)+$', 'a' * 60 + 'b')"
)


def test_a_run_that_is_killed_takes_its_kernels_along(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that is too busy to look whether anybody waits for it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    busy = [
        str(pages.write(tmp_path, f"{number}", BUSY.format(place=str(tmp_path))))
        for number in range(2)
    ]
    command = [sys.executable, "-P", "-c", RUNS, world.database_url, *busy]
    with subprocess.Popen(command) as runner:
        try:
            until(lambda: len(started(tmp_path)) == 2, "two kernels to run")
        finally:
            runner.kill()
    kernels = [int(told.stem) for told in started(tmp_path)]
    try:
        until(lambda: not any(map(pages.lives, kernels)), "the kernels to end", at_most_s=10)
    finally:
        for pid in filter(pages.lives, kernels):
            os.kill(pid, signal.SIGKILL)


# --- the shelf

MADE_AT: Final = datetime(2026, 11, 28, 4, 0, tzinfo=UTC)


def test_the_shelf_keeps_the_newest(tmp_path: Path) -> None:
    """So many reports, the last of them as latest.html as well; what is somebody else's stays."""
    others = {"report.html", "report-2020-01-01T040000Z.html.bak", "notes.txt", "report-x.html"}
    for name in others:
        (tmp_path / name).write_text("mine")
    for number in range(5):
        path = shelf.put(tmp_path, f"page {number}", MADE_AT + timedelta(days=number), 3)
    assert path.name == "report-2026-12-02T040000Z.html"
    ours = {f"report-{day}T040000Z.html" for day in ("2026-11-30", "2026-12-01", "2026-12-02")}
    assert {path.name for path in tmp_path.iterdir()} == ours | others | {"latest.html"}
    assert (tmp_path / "latest.html").read_text() == path.read_text() == "page 4"


def test_two_reports_of_one_minute_are_two(tmp_path: Path) -> None:
    """Of seven days and then of thirty, say: the path that was told first leads to what was made first."""
    first = shelf.put(tmp_path, "of 7 days", MADE_AT, 3)
    second = shelf.put(tmp_path, "of 30 days", MADE_AT + timedelta(seconds=12), 3)
    assert (first.read_text(), second.read_text()) == ("of 7 days", "of 30 days")


def test_a_page_that_is_put_back_in_time_stays(tmp_path: Path) -> None:
    """A clock that was set back does not take away what was just made."""
    shelf.put(tmp_path, "later", MADE_AT + timedelta(days=1), 1)
    assert shelf.put(tmp_path, "now", MADE_AT, 1).read_text() == "now"


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    """Half a page of long ago; not one that somebody is writing just now."""
    old, new = tmp_path / ".report-1.part", tmp_path / ".report-2.part"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (0, 0))
    shelf.put(tmp_path, "page", MADE_AT, 3)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_disk_that_is_full_is_told_and_harms_nothing(tmp_path: Path) -> None:
    """The sentence names the folder; yesterday's page is whole, and no half one lies beside it."""
    before = shelf.put(tmp_path, "page", MADE_AT, 3)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(CannotWrite, match=r"^No report can be written to .*: .*\.$") as caught:
            shelf.put(tmp_path, "p" * 1000, MADE_AT + timedelta(days=1), 3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path) in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {before.name, "latest.html"}
    assert (tmp_path / "latest.html").read_text() == "page"


def test_a_folder_that_is_none_is_told_before_any_notebook_runs(
    planted_world: World, tmp_path: Path
) -> None:
    """Rather than after minutes."""
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="file/reports: Not a directory"):
        pages.made(planted_world, tmp_path / "file" / "reports", notebooks=tmp_path)
    with pytest.raises(CannotWrite, match="/file: it is no folder"):
        shelf.prepare(tmp_path / "file")
    with pytest.raises(CannotWrite, match="No report can be written to /proc/reports"):
        shelf.prepare(Path("/proc/reports"))
