"""Queries and dashboards as files: what is written reads back, what is wrong is told with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytics.redash import dashboard_file, folder, query_file, schedule
from analytics.redash.marked import Malformed, Marked, written
from analytics.redash.model import (
    TAG,
    Alert,
    Column,
    Dashboard,
    Mapping,
    Parameter,
    Position,
    Query,
    Schedule,
    Visualization,
    Widget,
)
from analytics.redash.render import rendered
from jobs import tasks
from jobs.schedule import SCHEDULE
from tests.redash.sample import DASHBOARD, LIST, QUERY, files

PAGE: Final = "dashboards/players.yaml"

# --- reading


def test_a_query_is_read_whole() -> None:
    """What a header says is what Redash is told; every query has a table, which Redash makes anyway."""
    query = query_file.read("daily_actives", QUERY, "daily_actives.sql")
    assert query.name == "Daily actives"
    assert query.tags == {"players", TAG}
    assert query.schedule == Schedule(86_400, "06:30")
    assert query.parameters == (
        Parameter("days", "Days", "enum", "30", values=("7", "30")),
        Parameter("until", "Up to", "query", "latest", source="last_days"),
    )
    assert [one.name for one in query.visualizations] == ["Active players", "Table"]
    chart, table = query.visualizations
    assert chart.options["columnMapping"] == {"day": "x", "new_players": "y", "others": "y"}
    assert chart.options["xAxis"]["type"] == "datetime"
    assert chart.options["series"]["stacking"] == "stack"
    assert [one["name"] for one in table.options["columns"]] == ["day", "new_players", "others"]
    assert query.alerts == (Alert("Nobody plays", "new_players", "<", 1.0, "first", 86_400),)
    assert query.sql.startswith("select day")
    assert not query.sql.endswith("\n")


def test_ours_are_asked_as_often_as_there_are_rollups() -> None:
    """A new stack's pages may come before its first rollup: asked hourly, they stayed empty so long."""
    (every_s,) = (entry.every_s for entry in SCHEDULE if entry.task is tasks.roll_up)
    for query in folder.read(folder.OURS).queries.values():
        assert query.schedule is not None, query.key
        assert query.schedule.every_s <= every_s, query.key


def test_parameters_are_put_into_the_sql() -> None:
    """Defaults stand where nobody chose, in the way Redash puts them there: as they are."""
    query = query_file.read("daily_actives", QUERY, "daily_actives.sql")
    assert "cast('30' as integer) and 'latest' <> ''" in rendered(query)
    assert "cast('7' as integer)" in rendered(query, days="7")
    with pytest.raises(KeyError):
        rendered(query, day="7")
    several = msgspec.structs.replace(
        query,
        sql="select {{ side }}, '{{ span.start }}', '{{span.end}}', {{n}}",
        parameters=(
            Parameter("side", "", "enum", ["a", "b"], ("a", "b"), multiple=True),
            Parameter("span", "", "date-range", {"start": "2026-01-01", "end": "2026-01-31"}),
            Parameter("n", "", "number", 10),
        ),
    )
    assert rendered(several) == "select 'a','b', '2026-01-01', '2026-01-31', 10"


def test_a_dashboard_is_read_whole() -> None:
    """Widgets come from the top left on and go by what they show, so that they are known again."""
    page = dashboard_file.read("players", DASHBOARD, "players.yaml")
    assert page.parameters == ("days", "until")
    assert page.starts == {"days": "7"}
    keys = [widget.key for widget in page.widgets]
    assert re.fullmatch(r"text-[0-9a-f]{8}", keys[0])
    assert keys[1:] == ["daily_actives/Active players", "daily_actives/Table"]
    assert page.widgets[2].mappings == {"days": Mapping("static-value", value="30")}


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("name: Daily actives", "nam: Daily actives"), 1, "`nam` is not known here"),
        (("-- name: Daily actives\n", ""), 1, "`name` is missing"),
        (("name: Daily actives", "name: a: b"), 1, "in quotes"),
        (("[players]", "players"), 3, "`tags`: expected a list, not a word"),
        (("1d at 06:30", "1h at 06:30"), 4, "`refresh` is 30s, 5m"),
        (("type: enum", "type: text"), 6, "would be part of the SQL"),
        (('default: "30"}', 'default: "31"}'), 6, "not one of the `options`"),
        (("from: last_days, ", ""), 7, "`from: key of a query` belongs"),
        (("x: day, y", "x: dya, y"), 9, "no column `dya`; its columns are: day, new_players"),
        (("type: area", "type: aera"), 9, "`aera` is no type of visualization"),
        (("stacked: true", "stakced: true"), 9, "`stakced` is not known here"),
        (("stacked: true", "stacked: yes"), 9, "`stacked`: expected true or false, not a word"),
        (("new_players < 1", "new_players is 0"), 11, "`when` is a column"),
        (("new_players < 1", "players < 1"), 11, "no column `players`"),
        (("rearm: 1d", "rearm: daily"), 11, "`rearm` is a span"),
        (("date; the UTC day", "day; the UTC day"), 13, "the type one of integer"),
        (("--   others:", "--   new_players:"), 15, "`new_players` is said twice"),
        (("{{until}}", "{{untill}}"), 5, "the SQL has {{ untill }}"),
        (("and '{{until}}' <> ''", ""), 5, "`until` does not occur in the SQL as {{ until }}"),
        (("select day", "-- select day"), 16, "a comment of the SQL's own stands below an empty line"),
        (('["7", "30"]', "[7, 30]"), 6, "`options`: expected a word, not a whole number: put it in quotes"),
        (('["7", "30"]', "{7: 30}"), 6, "`options`: expected a list, not `key: value`"),
        (("--   others:", "--\tothers:"), 15, "there is a tab; write spaces"),
        (("x: day, y", "x: !!binary day, y"), 9, "could not determine a constructor"),
        (("stacked: true", "options: {a: {b: 1, b: 2}}"), 9, "`b` is said twice"),
        (("[players]", "&a [*a]"), 1, "its aliases (*) make too much of it"),
        (("-- name", "name"), 1, "a query begins with its header, such as `-- name"),
        ((QUERY, ""), 1, "a query begins with its header"),
        ((QUERY[QUERY.index("select day"):], ""), 1, "after the header comes the SQL, and there is none"),
        (("Nobody plays", "x" * 256), 11, "a name has 1 to 255 characters"),
        (("new_players < 1", "new_players < many"), 11, "`when` is a column"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_query_is_told_with_its_line(
    change: tuple[str, str], line: int, said: str
) -> None:
    """Redash checks next to nothing; who writes a file is told where it is wrong, and what to write."""
    text = QUERY.replace(*change)
    assert text != QUERY
    with pytest.raises(Malformed) as error:
        query_file.read("daily_actives", text, "daily_actives.sql")
    assert str(error.value).startswith(f"daily_actives.sql:{line}: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("name: Players", "name: "), 1, "`name`"),
        (("[0, 2, 6, 8]", "[0, 1, 6, 8]"), 11, "it lies over the widget at [0, 0, 12, 2]"),
        (("[6, 2, 6, 8]", "[7, 2, 6, 8]"), 14, "within 12 columns"),
        (("[6, 2, 6, 8]", "[6, 2, 6]"), 14, "`at`: expected 4 values, not 3"),
        (("tags: [players]", "tags: [1]"), 2, "not a whole number: put it in quotes"),
        (("show: Table", "shows: Table"), 13, "`shows` is not known here"),
        (("    show: Table\n", ""), 12, "or a `query` and the visualization to `show`"),
        (("{fixed: \"30\"}", "{fix: \"30\"}"), 15, "`fix` is not known here"),
        (("{fixed: \"30\"}", "all"), 15, "expected"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_dashboard_is_told_with_its_line(
    change: tuple[str, str], line: int, said: str
) -> None:
    """A page that Redash would not open, or with widgets over one another, is refused here."""
    text = DASHBOARD.replace(*change)
    assert text != DASHBOARD
    with pytest.raises(Malformed) as error:
        dashboard_file.read("players", text, "players.yaml")
    assert str(error.value).startswith(f"players.yaml:{line}: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (PAGE, ("query: daily_actives,", "query: weekly,"), "there is no weekly.sql"),
        (PAGE, ("show: Active players", "show: Aktive"), "it has: Active players, Table"),
        (PAGE, ("  until:\n", ""), "`until` is not among the page's `parameters`"),
        (PAGE, ("  until:\n", "  until:\n  side:\n"), "no widget has the parameter `side`"),
        (PAGE, ("{days: {fixed", "{side: {fixed"), "has no parameter `side`"),
        ("daily_actives.sql", ("from: last_days", "from: all_days"), "there is no all_days.sql"),
        ("daily_actives.sql", ("from: last_days", "from: daily_actives"), "is from itself"),
    ],
)  # fmt: skip
def test_what_files_say_of_one_another_is_checked(
    tmp_path: Path, name: str, change: tuple[str, str], said: str
) -> None:
    """A name that nothing answers to is an error here, where Redash would show an empty chart."""
    text = {"daily_actives.sql": QUERY, PAGE: DASHBOARD}[name]
    assert text != text.replace(*change)
    with pytest.raises(Malformed, match=rf"{name}:[0-9]+: ") as error:
        folder.read(files(tmp_path, **{name: text.replace(*change)}))
    assert said in str(error.value)
    assert name in str(error.value)


def test_lists_come_before_the_queries_that_use_them(tmp_path: Path) -> None:
    """Redash wants the id of a list in the query that uses it."""
    spec = folder.read(files(tmp_path))
    assert list(spec.queries) == ["last_days", "daily_actives"]


def test_a_folder_without_queries_is_told(tmp_path: Path) -> None:
    """An installation without the files, or a wrong path, is not taken for an empty set of dashboards."""
    with pytest.raises(Malformed, match="has no query: name a folder"):
        folder.read(tmp_path)
    files(tmp_path, **{"Über.sql": LIST})
    with pytest.raises(Malformed, match="the file's name is a key"):
        folder.read(tmp_path)


# --- writing


def test_a_folder_that_says_it_all_stays_as_it_is(tmp_path: Path) -> None:
    """Export into the files' own folder touches nothing but what was changed in Redash."""
    spec = folder.read(files(tmp_path))
    assert folder.write(spec, tmp_path) == []
    query = spec.queries["daily_actives"]
    changed = msgspec.structs.replace(query, name="Actives", columns=())
    spec.queries["daily_actives"] = changed
    assert folder.write(spec, tmp_path) == [tmp_path / "daily_actives.sql"]
    text = (tmp_path / "daily_actives.sql").read_text()
    assert "name: Actives" in text
    assert "type: area" in text  # in the words of before
    assert "day: date; the UTC day" in text  # which Redash knows nothing of
    again = folder.read(tmp_path).queries["daily_actives"]
    assert again.shown() == changed.shown()


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)
NAME = TEXT.filter(bool)
PLAIN: Any = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OPTIONS = st.dictionaries(NAME, PLAIN, max_size=3)
LINES = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=60)


@given(PLAIN)
def test_yaml_comes_back_as_it_went(value: Any) -> None:
    """Words that YAML would take for something else stay words, whatever they are."""
    assert Marked.read(written({"value": value}), "x").plain() == {"value": value}


@given(
    st.builds(
        Query,
        key=st.just("some"),
        name=NAME,
        sql=LINES.map(str.strip).filter(lambda sql: bool(sql) and "{{" not in sql),
        description=LINES.map(str.strip),
        tags=st.frozensets(NAME, max_size=3).map(lambda tags: tags | {TAG}),
        schedule=st.none()
        | st.builds(Schedule, st.integers(1, 10**6))
        | st.just(Schedule(604_800, "23:59", "Monday", "2027-01-31")),
        visualizations=st.lists(
            st.builds(Visualization, NAME, st.sampled_from(["CHART", "MAP"]), LINES, OPTIONS),
            max_size=3,
            unique_by=lambda one: one.name,
        ).map(tuple),
        alerts=st.lists(
            st.builds(
                Alert,
                NAME,
                st.just("day"),
                st.sampled_from([">", "=="]),
                st.integers(-(10**9), 10**9).map(float),
                st.sampled_from(["first", "max"]),
                st.none() | st.integers(1, 10**6),
                st.booleans(),
                OPTIONS,
            ),
            max_size=2,
            unique_by=lambda one: one.name,
        ).map(tuple),
        columns=st.just((Column("day", "date", "the day: # UTC"),)) | st.just(()),
        options=OPTIONS,
    )
)
def test_any_query_comes_back_as_it_went(query: Query) -> None:
    """Export loses nothing, whatever somebody wrote into Redash."""
    again = query_file.read("some", query_file.write(query), "some.sql")
    if all(one.name != query_file.TABLE for one in query.visualizations):
        assert again.visualizations[-1].name == query_file.TABLE
        again = msgspec.structs.replace(again, visualizations=again.visualizations[:-1])
    assert again == query


@given(
    st.lists(
        st.one_of(
            st.builds(Widget, st.just(""), st.just(Position(0, 0, 1, 1)), LINES.map(str.strip)),
            st.builds(
                Widget,
                st.just(""),
                st.just(Position(0, 0, 1, 1)),
                query=st.just("daily"),
                visualization=NAME,
                mappings=st.dictionaries(
                    NAME,
                    st.sampled_from(
                        [
                            Mapping("dashboard-level", "other", title="T"),
                            Mapping("static-value", value="30"),
                            Mapping("static-value", value={"start": "a", "end": "b"}),
                        ]
                    ),
                    max_size=2,
                ),
                options=OPTIONS,
            ),
        ),
        max_size=4,
    ),
    NAME,
    st.dictionaries(NAME, PLAIN.filter(lambda value: value is not None), max_size=2),
    st.booleans(),
    OPTIONS,
)
def test_any_dashboard_comes_back_as_it_went(
    widgets: list[Widget], name: str, starts: dict[str, Any], filters: bool, options: Any
) -> None:
    """The same of a page: places, texts, and where its widgets have their values from."""
    placed = dashboard_file.keyed(
        msgspec.structs.replace(widget, at=Position(0, 2 * row, 6, 2))
        for row, widget in enumerate(widgets)
    )
    page = Dashboard(
        "some", name, frozenset({TAG}), (*starts, "more"), starts, filters, placed, options
    )
    if "more" not in starts:
        assert dashboard_file.read("some", dashboard_file.write(page), "some.yaml") == page


def test_a_name_of_blanks_comes_back_as_it_went() -> None:
    """What looks like nothing, such as a space that does not break, is something all the same."""
    query = query_file.read("last_days", LIST, "last_days.sql")
    blank = msgspec.structs.replace(query, name="\xa0", description="a\u3000")
    again = query_file.read("last_days", query_file.write(blank), "last_days.sql")
    assert again.name == "\xa0"


@pytest.mark.parametrize(
    "words",
    ["30s", "5m", "36h", "1d at 06:30", "7d on Monday at 23:59", "1h until 2027-01-31"],
)
def test_schedules_come_back_as_they_went(words: str) -> None:
    """Both ways are the same words."""
    found = schedule.read(words)
    assert found is not None
    assert schedule.written(found) == words


@pytest.mark.parametrize(
    "words", ["", "0m", "1h at 06:30", "2d on Monday", "1d at 24:00", "1 h", "1w"]
)
def test_schedules_that_redash_would_not_keep_are_refused(words: str) -> None:
    """Redash takes anything here and never runs it."""
    assert schedule.read(words) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("weekly.SQL", "queries are DIR/*.sql and dashboards DIR/dashboards/*.yaml"),
        ("weekly.yaml", "queries are DIR/*.sql and dashboards DIR/dashboards/*.yaml"),
        ("dashboards/weekly.yml", "queries are DIR/*.sql and dashboards DIR/dashboards/*.yaml"),
        ("dashboards/Weekly.yaml", "the file's name is a key: small letters"),
        ("a" * 71 + ".sql", "the file's name is a key: small letters"),
    ],
)
def test_a_file_that_would_be_overlooked_is_told(tmp_path: Path, name: str, said: str) -> None:
    """Whoever writes a page as .yml would see nothing of it; with --prune it would even be archived."""
    with pytest.raises(Malformed) as error:
        folder.read(files(tmp_path, **{name: DASHBOARD}))
    assert name in str(error.value)
    assert said in str(error.value)


def test_windows_writes_files_as_well(tmp_path: Path) -> None:
    """Its line ends and the mark at the beginning are no part of what is said."""
    want = folder.read(files(tmp_path / "a"))
    texts = {"daily_actives.sql": QUERY, "last_days.sql": LIST, PAGE: DASHBOARD}
    other = files(tmp_path / "b")
    for name, text in texts.items():
        (other / name).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert folder.read(other) == want
    assert folder.write(want, other) == []


def test_keys_are_words_whatever_they_look_like() -> None:
    """Series of a chart may be called 2024 or true, and JSON knows no other keys than words."""
    text = QUERY.replace("stacked: true", "series: others, colors: {2024: '#fff', true: '#000'}")
    query = query_file.read(
        "daily_actives", text.replace("[new_players, others]", "others"), "x.sql"
    )
    assert list(query.visualizations[0].options["seriesOptions"]) == ["2024", "true"]
