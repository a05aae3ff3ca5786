"""Bringing dashboards to a Redash: what is made, that it is made once, and what becomes of it in trouble."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analytics.redash import apply as applying
from analytics.redash import drift as drifting
from analytics.redash import export as exporting
from analytics.redash import folder, found, plan, source
from analytics.redash.apply import Applied
from analytics.redash.client import Redash, RedashError
from analytics.redash.plan import Plan
from tests.redash.fake import Fake
from tests.redash.sample import ANSWERS, DASHBOARD, LIST, QUERY, files
from tests.redash.sql import Canned

DATABASE = "postgresql://infamous_bi:secret%2Fword@db:5433/infamous"


@dataclass
class World:
    """A fake Redash, and the folder that it should be brought to."""

    fake: Fake
    folder: Path

    @property
    def redash(self) -> Redash:
        """A client of the administrator's."""
        return Redash(self.fake.url, self.fake.admin_key)

    def plan(self, database: str | None = DATABASE) -> Plan:
        """What an apply would do."""
        spec = folder.read(self.folder)
        at = source.find(self.redash, database)
        return plan.plan(spec, found.read(self.redash, spec.dashboards), at.id)

    def apply(
        self, database: str | None = DATABASE, *, prune: bool = False, limit_s: float = 5.0
    ) -> Applied:
        """As the command does it."""
        spec, redash = folder.read(self.folder), self.redash
        redash.version()
        at = source.find(redash, database)
        have = found.read(redash, spec.dashboards)
        return applying.apply(
            redash, spec, have, at, prune=prune, limit_s=limit_s, tell=lambda *_: None
        )

    def write(self, **texts: str) -> None:
        """Change files."""
        files(self.folder, **texts)

    def written(self, database: str | None = DATABASE) -> list[str]:
        """What an apply writes, as method and path."""
        self.fake.forget()
        self.apply(database)
        return [f"{one.method} {one.path}" for one in self.fake.writes]

    def drift(self) -> list[str]:
        """What was changed by hand."""
        return [f"{one.key}: {one.what}" for one in drifting.drift(found.read(self.redash))]

    def query(self, key: str) -> dict[str, Any]:
        """A query of ours, as Redash has it."""
        id_ = found.read(self.redash).queries[key].id
        return dict(self.redash.get(f"/api/queries/{id_}"))

    def page(self, key: str = "players") -> dict[str, Any]:
        """A dashboard of ours, as Redash has it."""
        return found.read(self.redash).dashboards[key].raw


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A Redash that was set up a moment ago."""
    with Fake(canned=Canned()) as running:
        for part, answer in ANSWERS.items():
            running.give(part, answer)
        yield running


@pytest.fixture
def world(fake: Fake, tmp_path: Path) -> World:
    """The sample's files, and nothing of them in Redash."""
    return World(fake, files(tmp_path))


# --- what is made


def test_redash_has_what_the_files_say(world: World) -> None:
    """Queries, their charts and alerts, and the page with its controls are there, published and answered."""
    done = world.apply()
    assert done.failed == {}
    page = world.page()
    assert done.addresses == {"Players": f"{world.fake.url}/dashboards/{page['id']}"}
    assert (page["name"], page["is_draft"], set(page["tags"])) == (
        "Players",
        False,
        {"players", "infamous"},
    )
    assert page["options"]["globalParamOrder"] == ["days", "until"]
    assert page["options"]["parameters"] == [{"name": "days", "value": "7"}]
    text, chart, table = sorted(
        page["widgets"], key=lambda one: (one["options"]["position"]["row"], one["id"])
    )
    assert text["text"] == "### Who plays\nAnything counts."
    assert chart["visualization"]["name"] == "Active players"
    assert {k: chart["options"]["position"][k] for k in ("col", "row", "sizeX", "sizeY")} == {
        "col": 0,
        "row": 2,
        "sizeX": 6,
        "sizeY": 8,
    }
    assert chart["options"]["parameterMappings"]["days"]["type"] == "dashboard-level"
    assert table["options"]["parameterMappings"]["days"]["value"] == "30"
    query = world.query("daily_actives")
    assert (query["is_draft"], query["name"]) == (False, "Daily actives")
    assert query["latest_query_data_id"] is not None
    assert query["schedule"] == {
        "interval": 86_400,
        "time": "06:30",
        "day_of_week": None,
        "until": None,
    }
    until = query["options"]["parameters"][1]
    assert until["queryId"] == world.query("last_days")["id"]
    assert [one["name"] for one in query["visualizations"]] == ["Table", "Active players"]
    (alert,) = world.redash.get("/api/alerts")
    assert (alert["name"], alert["rearm"], alert["query"]["id"]) == (
        "Nobody plays",
        86_400,
        query["id"],
    )
    assert alert["state"] == "ok"
    (known,) = world.redash.get("/api/data_sources")
    options = world.redash.get(f"/api/data_sources/{known['id']}")["options"]
    assert (options["host"], options["port"], options["user"]) == ("db", 5433, "infamous_bi")
    assert "secret/word" in world.fake.secrets


def test_the_second_apply_writes_nothing(world: World) -> None:
    """What is so already is not written, not even as it is: versions and times stay."""
    assert world.apply().changes == 3
    assert world.written() == []
    assert not world.plan().changes
    assert world.drift() == []


def test_a_plan_writes_nothing(world: World) -> None:
    """A plan may be looked at whenever somebody likes."""
    assert [(one.act, one.kind, one.key) for one in world.plan().changes] == [
        ("create", "query", "last_days"),
        ("create", "query", "daily_actives"),
        ("create", "dashboard", "players"),
    ]
    assert world.fake.writes == []


def test_only_what_changed_is_written(world: World) -> None:
    """One SQL, one place, one widget less: just these, and the query is run again."""
    world.apply()
    page, query = world.page(), world.query("daily_actives")
    moved = DASHBOARD.replace("at: [0, 2, 6, 8]", "at: [0, 2, 6, 9]")
    gone = moved.index("  - query: daily_actives")
    world.write(**{
        "dashboards/players.yaml": moved[:gone],
        "daily_actives.sql": QUERY.replace("from days", "from all_days"),
    })  # fmt: skip
    by_name = {
        one.get("visualization", {}).get("name", "text"): one["id"] for one in page["widgets"]
    }
    assert world.written() == [
        f"POST /api/queries/{query['id']}",
        f"POST /api/queries/{query['id']}",
        f"POST /api/widgets/{by_name['Active players']}",
        f"DELETE /api/widgets/{by_name['Table']}",
        f"POST /api/dashboards/{page['id']}",
    ]
    assert "from all_days" in world.fake.ran[-1]
    assert world.query("daily_actives")["latest_query_data_id"] != query["latest_query_data_id"]
    assert world.written() == []


@pytest.mark.parametrize(
    ("name", "change", "paths"),
    [
        ("daily_actives.sql", ("name: Daily actives", "name: Actives a day"), ["queries"]),
        ("daily_actives.sql", ("1d at 06:30", "1h"), ["queries"]),
        ("daily_actives.sql", ("type: area", "type: line"), ["visualizations", "queries"]),
        ("daily_actives.sql", ("new_players < 1", "new_players < 2"), ["alerts", "queries"]),
        ("dashboards/players.yaml", ("name: Players", "name: Everybody"), ["dashboards"]),
        ("dashboards/players.yaml", ('days: "7"', 'days: "30"'), ["dashboards"]),
        ("dashboards/players.yaml", ('{fixed: "30"}', "own"), ["widgets"]),
        ("dashboards/players.yaml", ("Anything counts", "All counts"), ["widgets", "widgets", "dashboards"]),
    ],
)  # fmt: skip
def test_each_change_of_a_file_arrives(
    world: World, name: str, change: tuple[str, str], paths: list[str]
) -> None:
    """A field has a place of its own in Redash, is written alone, and once."""
    world.apply()
    before = (world.folder / name).read_text()
    assert before != before.replace(*change)
    world.write(**{name: before.replace(*change)})
    assert [one.split("/")[2] for one in world.written()] == paths
    assert world.written() == []
    world.write(**{name: before})
    assert [one.split("/")[2] for one in world.written()] == paths
    assert world.drift() == []


def test_a_chart_that_is_on_a_page_may_get_another_name(world: World) -> None:
    """Redash removes the widgets of a chart with it, and answers 500 when they are removed again."""
    world.apply()
    world.write(**{
        "daily_actives.sql": QUERY.replace("Active players:", "Who played:"),
        "dashboards/players.yaml": DASHBOARD.replace("show: Active players", "show: Who played"),
    })  # fmt: skip
    world.apply()
    shown = [
        one["visualization"]["name"] for one in world.page()["widgets"] if "visualization" in one
    ]
    assert sorted(shown) == ["Table", "Who played"]
    assert world.written() == []
    assert world.drift() == []


def test_a_parameter_that_is_new_gets_its_control_at_once(world: World) -> None:
    """A widget is told where each of its query's parameters comes from, also in the run that adds one."""
    world.apply()
    world.write(**{
        "daily_actives.sql": QUERY.replace(
            "-- visualizations",
            "--   side: {type: enum, options: [all, hero], default: all}\n-- visualizations",
        ).replace("and '{{until}}'", "and '{{ side }}' <> '' and '{{until}}'"),
        "dashboards/players.yaml": DASHBOARD.replace("  until:\n", "  until:\n  side:\n"),
    })  # fmt: skip
    world.apply()
    for widget in world.page()["widgets"]:
        if "visualization" in widget:
            assert widget["options"]["parameterMappings"]["side"]["type"] == "dashboard-level"
    assert world.written() == []


def test_what_is_in_no_file_any_more_goes_only_when_asked(world: World) -> None:
    """Another folder, or a file that was lost, takes nobody's dashboards away."""
    world.apply()
    (world.folder / "dashboards/players.yaml").unlink()
    (world.folder / "daily_actives.sql").unlink()
    assert [(one.act, one.kind, one.key) for one in world.plan().gone] == [
        ("remove", "dashboard", "players"),
        ("remove", "query", "daily_actives"),
    ]
    assert world.written() == []
    world.apply(prune=True)
    have = found.read(world.redash)
    assert (list(have.queries), list(have.dashboards)) == (["last_days"], [])
    world.write()
    world.apply()
    assert world.written() == []


# --- what is not ours


def test_what_others_made_is_not_touched(world: World) -> None:
    """Names are not unique in Redash: what has ours and not our mark is somebody's own."""
    redash = world.redash
    made = redash.post(
        "/api/data_sources", {"name": "Other", "type": "pg", "options": {"dbname": "x"}}
    )
    theirs = redash.post(
        "/api/queries", {"name": "Daily actives", "query": "select 1", "data_source_id": made["id"]}
    )
    page = redash.post("/api/dashboards", {"name": "Players"})
    chart = {"dashboard_id": page["id"], "visualization_id": theirs["visualizations"][0]["id"]}
    redash.post("/api/widgets", {**chart, "text": "", "width": 1, "options": {}})
    redash.post(f"/api/dashboards/{page['id']}", {"is_draft": False})
    paths = [f"/api/queries/{theirs['id']}", f"/api/dashboards/{page['id']}"]
    before = [redash.get(path) for path in paths]
    world.apply()
    world.apply(prune=True)
    assert [redash.get(path) for path in paths] == before
    assert world.page()["id"] != page["id"]


def test_a_copy_is_of_whoever_made_it(world: World) -> None:
    """Redash copies a query with our mark in it, a page with those of its widgets: neither is ours."""
    world.apply()
    redash, query = world.redash, world.query("daily_actives")
    copy = redash.post(f"/api/queries/{query['id']}/fork", {})
    redash.post(f"/api/queries/{copy['id']}", {"query": "select 1"})
    page = redash.post(f"/api/dashboards/{world.page()['id']}/fork", {})
    paths = [f"/api/queries/{copy['id']}", f"/api/dashboards/{page['id']}"]
    before = [redash.get(path) for path in paths]
    assert world.written() == []
    assert world.drift() == []
    world.apply(prune=True)
    assert [redash.get(path) for path in paths] == before


def test_two_with_our_key_are_an_error(world: World) -> None:
    """Which of two is meant nobody knows: both are named, and nothing is written."""
    world.apply()
    id_ = world.query("daily_actives")["id"]
    world.redash.delete(f"/api/queries/{id_}")
    world.apply()
    copy = world.query("daily_actives")
    world.redash.post(f"/api/queries/{id_}", {"is_archived": False})
    world.fake.forget()
    with pytest.raises(RedashError, match="two queries with the key daily_actives") as error:
        world.apply()
    assert f"/queries/{id_} " in str(error.value)
    assert f"/queries/{copy['id']}" in str(error.value)
    assert world.fake.writes == []
    world.redash.delete(f"/api/queries/{copy['id']}")
    world.apply()
    assert world.written() == []


def test_what_was_added_to_ours_by_hand_stays(world: World) -> None:
    """A widget, a chart or an alert that somebody put beside ours is theirs."""
    world.apply()
    query, page = world.query("daily_actives"), world.page()
    made = world.redash.post(
        "/api/visualizations",
        {"query_id": query["id"], "name": "Mine", "type": "COUNTER", "options": {}},
    )
    world.redash.post(
        "/api/widgets",
        {"dashboard_id": page["id"], "visualization_id": made["id"], "text": "", "width": 1,
         "options": {"position": {"col": 0, "row": 20, "sizeX": 3, "sizeY": 4}}},
    )  # fmt: skip
    assert world.written() == []
    assert world.drift() == [
        "daily_actives: visualization Mine was added",
        f"players: widget {world.page()['widgets'][-1]['id']} was added: daily_actives/Mine",
    ]
    assert len(world.page()["widgets"]) == 4


# --- the data source


def test_the_password_is_written_when_it_changed(world: World) -> None:
    """Redash shows no password, so that it is another one is known by a digest."""
    world.apply()
    assert world.written() == []
    other = DATABASE.replace("secret", "other")
    (known,) = world.redash.get("/api/data_sources")
    assert world.written(other) == [f"POST /api/data_sources/{known['id']}"]
    assert "other/word" in world.fake.secrets
    assert world.written(other) == []


def test_a_source_that_is_there_is_used_as_it_is(world: World) -> None:
    """Where no address is given, whoever made the source has seen to it."""
    with pytest.raises(RedashError, match="REDASH_SOURCE_URL must name the database"):
        world.apply(None)
    body = {"name": source.NAME, "type": "pg", "options": {"dbname": "x", "password": "theirs"}}
    made = world.redash.post("/api/data_sources", body)
    world.apply(None)
    assert world.query("daily_actives")["data_source_id"] == made["id"]
    assert world.written(None) == []
    world.redash.post("/api/data_sources", body)
    with pytest.raises(RedashError, match="has 2 data sources with the name Infamous"):
        world.apply(None)


# --- drift and export


def test_a_page_that_was_edited_and_left_as_it_was_has_not_drifted(world: World) -> None:
    """Redash writes every control's value into a page that somebody opens for editing and closes again."""
    world.apply()
    page = world.page()
    values = [{"name": "until", "value": "latest"}, {"name": "days", "value": "7"}]
    options = {**page["options"], "parameters": values}
    world.redash.post(f"/api/dashboards/{page['id']}", {"options": options})
    assert world.drift() == []
    assert world.written() == []
    assert folder.write(exporting.export(world.redash), world.folder) == []
    values[0]["value"] = "2026-11-01"
    world.redash.post(f"/api/dashboards/{page['id']}", {"options": options})
    assert world.drift() == ["players: a parameter's start was changed"]


def test_a_query_that_was_saved_as_it_was_has_not_drifted(world: World) -> None:
    """Redash's page writes that it adds no limit, which is so anyway; a schedule that it disabled is none."""
    world.apply()
    query = world.query("daily_actives")
    path = f"/api/queries/{query['id']}"
    world.redash.post(path, {"options": {**query["options"], "apply_auto_limit": False}})
    assert world.drift() == []
    assert world.written() == []
    world.redash.post(path, {"schedule": {**query["schedule"], "disabled": True}})
    assert world.drift() == ["daily_actives: schedule was changed"]
    world.apply()
    assert world.query("daily_actives")["schedule"] == query["schedule"]


def test_a_widget_that_was_added_by_hand_is_taken_over_once(world: World) -> None:
    """Exported into the files, it is ours from then on, and is not made again on top of itself."""
    world.apply()
    page = world.page()
    options = {"position": {"col": 0, "row": 20, "sizeX": 3, "sizeY": 4, "autoHeight": False}}
    body = {"dashboard_id": page["id"], "visualization_id": None, "text": "Mine", "width": 1}
    made = world.redash.post("/api/widgets", {**body, "options": options})
    folder.write(exporting.export(world.redash), world.folder)
    assert world.written()[0] == f"POST /api/widgets/{made['id']}"
    assert len(world.page()["widgets"]) == 4
    assert world.drift() == []
    assert world.written() == []


def test_changes_by_hand_are_told(world: World) -> None:
    """Also when the files have not changed, field by field, and the plan says that it would undo them."""
    world.apply()
    redash, query, page = world.redash, world.query("daily_actives"), world.page()
    redash.post(f"/api/queries/{query['id']}", {"query": "select 1", "is_draft": True})
    chart = next(one for one in query["visualizations"] if one["name"] == "Active players")
    redash.post(f"/api/visualizations/{chart['id']}", {"options": {"globalSeriesType": "pie"}})
    (alert,) = redash.get("/api/alerts")
    redash.delete(f"/api/alerts/{alert['id']}")
    widget = page["widgets"][2]
    assert widget["visualization"]["name"] == "Table"
    place = {**widget["options"]["position"], "row": 12, "minSizeX": 2}
    redash.post(
        f"/api/widgets/{widget['id']}",
        {"text": "", "options": {**widget["options"], "position": place}},
    )
    text = next(one for one in page["widgets"] if "visualization" not in one)
    redash.delete(f"/api/widgets/{text['id']}")
    redash.post(f"/api/dashboards/{page['id']}", {"name": "Players!"})
    key = found.read(redash).dashboards["players"].mark.widgets[0]
    assert world.drift() == [
        "daily_actives: is a draft again",
        "daily_actives: the SQL was changed",
        "daily_actives: visualization Active players was changed",
        "daily_actives: alert Nobody plays was removed",
        "players: name was changed",
        "players: widget daily_actives/Table: its place was changed",
        f"players: widget {key} was removed",
    ]
    change, other = world.plan().changes
    assert [(one.field, one.by_hand) for one in change.differences] == [("sql", True)]
    assert [(one.field, one.by_hand) for one in other.differences] == [("name", True)]
    world.apply()
    assert world.drift() == []
    assert world.written() == []


def test_ours_are_exported_as_they_are_in_the_files(world: World, tmp_path: Path) -> None:
    """Into their own folder nothing is written; into another what is read from it is the same."""
    world.apply()
    assert folder.write(exporting.export(world.redash), world.folder) == []
    folder.write(exporting.export(world.redash), tmp_path / "other")
    there, here = folder.read(tmp_path / "other"), folder.read(world.folder)
    assert there.dashboards == here.dashboards
    assert {key: query.shown() for key, query in there.queries.items()} == {
        key: query.shown() for key, query in here.queries.items()
    }


def test_what_others_made_goes_through_files_and_back(world: World, tmp_path: Path) -> None:
    """Export, apply, export: the files are the same, with all that Redash allows and the fake was told."""
    redash = world.redash
    made = redash.post(
        "/api/data_sources", {"name": source.NAME, "type": "pg", "options": {"dbname": "x"}}
    )
    lists = redash.post(
        "/api/queries",
        {"name": "Sides", "query": "select 'all' as name", "data_source_id": made["id"]},
    )
    query = redash.post(
        "/api/queries",
        {
            "name": "Orders: by region # 1",
            "description": "Two\nlines: yes",
            "query": "-- why\nselect '{{ side }}', '{{ span.start }}'\r\n, '{{span.end}}', {{n}}, {{free}}\n",
            "data_source_id": made["id"],
            "schedule": {"interval": 604_800, "time": "06:30", "day_of_week": "Monday", "until": None},
            "tags": ["sales"],
            "options": {
                "apply_auto_limit": True,
                "parameters": [
                    {"name": "side", "title": "", "type": "query", "queryId": lists["id"], "value": "all",
                     "global": False, "locals": []},
                    {"name": "span", "title": "Span", "type": "date-range",
                     "value": {"start": "2026-01-01", "end": "2026-01-31"}},
                    {"name": "n", "title": "N", "type": "number", "value": 10},
                    {"name": "free", "title": "Free", "type": "text", "value": "x"},
                ],
            },
        },
    )  # fmt: skip
    ids = []
    for options in ({"a": [1, 2.5, None], "on": "no"}, {}):
        chart = {"query_id": query["id"], "name": "Same name", "type": "CHART", "options": options}
        ids.append(redash.post("/api/visualizations", chart)["id"])
    redash.post(
        "/api/alerts",
        {"name": "Low", "query_id": query["id"], "rearm": None,
         "options": {"column": "n", "op": "<=", "value": 1.5, "selector": "min", "custom_subject": "Low!"}},
    )  # fmt: skip
    page = redash.post("/api/dashboards", {"name": "Sales"})
    for row, id_ in enumerate([None, *ids]):
        mapping = {"name": "n", "type": "static-value", "value": 5, "mapTo": "", "title": ""}
        redash.post(
            "/api/widgets",
            {"dashboard_id": page["id"], "visualization_id": id_, "width": 1,
             "text": "" if id_ else "## Sales\n**as code**",
             "options": {"position": {"col": 0, "row": 8 * row, "sizeX": 6, "sizeY": 8, "autoHeight": True},
                         "parameterMappings": {"n": mapping} if row == 1 else {}}},
        )  # fmt: skip
    redash.post(
        f"/api/dashboards/{page['id']}",
        {"is_draft": False, "dashboard_filters_enabled": True, "tags": ["a b"]},
    )
    first, second = tmp_path / "first", tmp_path / "second"
    folder.write(exporting.export(redash, [page["id"]]), first)
    world.folder = first
    world.apply(None)
    assert world.written(None) == []
    folder.write(exporting.export(redash), second)
    texts = {path.relative_to(first): path.read_text() for path in first.rglob("*.*")}
    assert len(texts) == 3
    assert {path.relative_to(second): path.read_text() for path in second.rglob("*.*")} == texts


def test_a_dashboard_that_is_not_there_is_told(world: World) -> None:
    """A wrong number is no empty export."""
    with pytest.raises(RedashError, match="Redash has no dashboard 99"):
        exporting.export(world.redash, [99])


def test_an_export_takes_nobodys_key(world: World) -> None:
    """Names are not unique: what others made overwrites no file of ours, and goes where it went before."""
    world.apply()
    (known,) = world.redash.get("/api/data_sources")
    body = {"name": "Daily actives", "query": "select 1", "data_source_id": known["id"]}
    theirs = world.redash.post("/api/queries", body)
    page = world.redash.post("/api/dashboards", {"name": "Players"})
    chart = {"dashboard_id": page["id"], "visualization_id": theirs["visualizations"][0]["id"]}
    world.redash.post("/api/widgets", {**chart, "text": "", "width": 1, "options": {}})
    (world.folder / "daily_actives_2.sql").write_text(QUERY.replace("name: Daily", "name: Our"))
    before = {path: path.read_text() for path in world.folder.rglob("*.*")}
    for _ in range(2):
        spec = exporting.export(world.redash, [page["id"]], folder.names(world.folder))
        assert (list(spec.queries), list(spec.dashboards)) == (["daily_actives_3"], ["players_2"])
        folder.write(spec, world.folder)
    assert {path: path.read_text() for path in before} == before
    assert folder.write(spec, world.folder) == []


@pytest.mark.parametrize("key", ["../../x", "/etc/x", "x\n", "", "x" * 300, "Ä"])
def test_a_key_in_redash_leads_nowhere_else(world: World, tmp_path: Path, key: str) -> None:
    """Anybody may write into options what they like: only what can be a file's name becomes one."""
    world.apply()
    query, page = world.query("daily_actives"), world.page()
    hostile = {"infamous": {"key": key, "fields": {"name": "x"}}}
    world.redash.post(f"/api/queries/{query['id']}", {"options": hostile, "name": "../../name"})
    world.redash.post(f"/api/dashboards/{page['id']}", {"options": hostile, "name": "/etc/page"})
    told = folder.write(exporting.export(world.redash, [page["id"]]), tmp_path / "a" / "b")
    assert sorted(path.name for path in told) == ["etc_page.yaml", "name.sql"]
    assert all(path.is_relative_to(tmp_path / "a" / "b") for path in told)
    assert list(found.read(world.redash).dashboards) == []


# --- what goes wrong


@pytest.mark.parametrize(
    "path",
    ["session", "data_sources", "data_sources/1", "queries", "queries/1", "alerts", "dashboards",
     "dashboards/1", "jobs/.*", "query_results/.*"],
)  # fmt: skip
@pytest.mark.parametrize(
    "answer",
    ["[", "[1]", "{}", '{"results": [{}], "count": 1}', '{"id": "x", "options": 5, "widgets": [1]}'],
)  # fmt: skip
def test_what_is_no_answer_of_redashs_is_told(world: World, path: str, answer: str) -> None:
    """Something else at that address may speak JSON: a sentence tells of it, and nothing is made twice."""
    world.apply()
    world.write(**{"last_days.sql": LIST.replace("'latest' as value", "'newest' as value")})
    world.fake.refuse("GET", f"/api/{path}$", 200, answer, None)
    with pytest.raises(RedashError, match="is REDASH_URL right") as error:
        world.apply()
    assert len(str(error.value).splitlines()) == 1
    world.fake.mend()
    world.apply()
    assert world.written() == []


def test_a_user_who_may_not_list_the_queries_is_told(world: World) -> None:
    """Redash lists queries to their source's groups alone, administrators or not: all were made again."""
    world.apply()
    (known,) = world.redash.get("/api/data_sources")
    for group in world.redash.get(f"/api/data_sources/{known['id']}")["groups"]:
        world.redash.delete(f"/api/groups/{group}/data_sources/{known['id']}")
    with pytest.raises(RedashError, match="is in no group that may use the data source Infamous"):
        world.apply()


def test_what_was_set_beside_the_source_stays(world: World) -> None:
    """A certificate or the like that somebody gave the data source is not dropped with a new password."""
    world.apply()
    (known,) = world.redash.get("/api/data_sources")
    path = f"/api/data_sources/{known['id']}"
    options = {**world.redash.get(path)["options"], "sslmode": "require"}
    world.redash.post(path, {"name": source.NAME, "type": "pg", "options": options})
    assert world.written() == []
    world.apply(DATABASE.replace("secret", "other"))
    assert world.redash.get(path)["options"]["sslmode"] == "require"
    assert "other/word" in world.fake.secrets


def test_odd_objects_of_others_are_read(world: World, tmp_path: Path) -> None:
    """What Redash allows: no options, no place, an alert on a word, a schedule without sense."""
    world.apply()
    redash, query = world.redash, world.query("last_days")
    path = f"/api/queries/{query['id']}"
    odd = {"interval": "often", "time": None, "day_of_week": None, "until": None}
    redash.post(path, {"schedule": odd, "name": 'It\'s "odd"\n\U0001f409: # {x}'})
    redash.post("/api/visualizations", {"query_id": query["id"], "name": "a\nb", "type": "DETAILS"})
    redash.post(
        "/api/alerts",
        {"name": "Word", "query_id": query["id"], "rearm": None,
         "options": {"column": "a column", "op": "==", "value": "bad news"}},
    )  # fmt: skip
    page = redash.post("/api/dashboards", {"name": "'\"\n\U0001f409"})
    redash.post(
        "/api/widgets",
        {"dashboard_id": page["id"], "visualization_id": None, "text": "<b>x</b>\n\n# y \n\t",
         "width": 1, "options": {}},
    )  # fmt: skip
    shown = {"dashboard_id": page["id"], "visualization_id": query["visualizations"][0]["id"]}
    wide = {"position": {"col": 6, "row": 1, "sizeX": 9, "sizeY": 2}}
    for options in ({}, wide):
        redash.post("/api/widgets", {**shown, "text": "", "width": 1, "options": options})
    spec = exporting.export(redash, [page["id"]])
    (odd_page,) = spec.dashboards.values()
    assert [(one.at.column, one.at.row) for one in odd_page.widgets] == [(0, 0), (3, 1), (0, 3)]
    folder.write(spec, tmp_path / "page")
    assert folder.read(tmp_path / "page").dashboards == spec.dashboards
    spec = exporting.export(redash)
    folder.write(spec, tmp_path / "ours")
    there = folder.read(tmp_path / "ours").queries["last_days"]
    assert there.shown() == spec.queries["last_days"].shown()
    assert there.name == 'It\'s "odd"\n\U0001f409: # {x}'
    assert world.plan().changes
    world.apply()
    assert world.written() == []


@pytest.mark.parametrize("done", [True, False], ids=["written, not answered", "not written"])
def test_an_apply_that_is_cut_off_anywhere_is_completed_by_the_next(
    tmp_path: Path, done: bool
) -> None:
    """At each of its writes the connection is lost: run again, all is there, and once."""
    for number in range(40):
        with Fake(canned=Canned()) as each:
            for part, answer in ANSWERS.items():
                each.give(part, answer)
            world = World(each, files(tmp_path))
            each.cut(number, done=done)
            try:
                world.apply()
            except RedashError as error:
                assert "Run this again" in str(error)  # noqa: PT017
            else:
                assert number > 10
                return
            each.mend()
            assert world.apply().failed == {}
            assert world.written() == []
            assert world.drift() == []
            names = [one["name"] for one in world.redash.all("/api/queries")]
            assert sorted(names) == ["Daily actives", "Days"]
            assert [one["name"] for one in world.redash.all("/api/dashboards")] == ["Players"]
            assert len(world.page()["widgets"]) == 3
            assert len(world.query("daily_actives")["visualizations"]) == 2
            assert len(world.redash.get("/api/alerts")) == 1
            assert len(world.redash.get("/api/data_sources")) == 1
    pytest.fail("it never came to its end")


def test_a_change_that_is_cut_off_anywhere_is_completed_by_the_next(tmp_path: Path) -> None:
    """The same of a later apply: no answer of the old SQL stays under the new one."""
    changed = {
        "daily_actives.sql": QUERY.replace("from days", "from all_days").replace("area", "line"),
        "dashboards/players.yaml": DASHBOARD.replace("Players", "All").replace(
            "2, 6, 8", "2, 6, 9"
        ),
    }
    for number in range(20):
        with Fake(canned=Canned()) as each:
            for part, answer in ANSWERS.items():
                each.give(part, answer)
            world = World(each, files(tmp_path))
            world.apply()
            world.write(**changed)
            each.cut(number, done=True)
            try:
                world.apply()
            except RedashError:
                each.mend()
            else:
                assert number > 4
                return
            world.apply()
            assert "from all_days" in each.ran[-1]
            assert world.written() == []
            assert world.drift() == []
    pytest.fail("it never came to its end")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda fake: fake.html_everywhere(), "answers with a page"),
        (lambda fake: fake.refuse("*", ".*", 429, '{"message": "50 per 1 hour"}', None), "wait an hour"),
        (lambda fake: fake.refuse("POST", "/api/queries", 500), "refused to POST /api/queries: 500"),
        (lambda fake: fake.refuse("GET", "/api/session", 302, "", None), "answers with a page"),
        (lambda fake: fake.refuse("GET", "/api/queries", 500, "<html>", None), "to GET /api/queries: 500"),
        (lambda fake: setattr(fake, "version", "8.0.0"), "of version 8.0.0, which is too old"),
    ],
)  # fmt: skip
def test_what_redash_says_is_told_in_a_sentence(world: World, fault: Any, said: str) -> None:
    """Strange answers end in a sentence that says what to do, without a key."""
    fault(world.fake)
    with pytest.raises(RedashError) as error:
        world.apply()
    assert said in str(error.value)
    assert world.fake.admin_key not in str(error.value)
    world.fake.mend()
    world.fake.version = "26.9.0"
    world.apply()
    assert world.written() == []


@pytest.mark.parametrize("version", ["25.8.0", "26.9.0", "27.01.0-dev", "strange"])
def test_other_versions_are_used(world: World, version: str) -> None:
    """The API did not change over the versions that were looked at, and a name is no reason to refuse."""
    world.fake.version = version
    world.apply()
    assert world.written() == []


def test_a_wrong_key_is_told(world: World) -> None:
    """Redash answers 404 to a key that it does not know; a key of somebody without rights is told as well."""
    with pytest.raises(RedashError, match="does not know REDASH_API_KEY"):
        Redash(world.fake.url, "x" * 40).version()
    somebody = world.fake.add_user("Viewer", 2)
    with pytest.raises(RedashError, match="is not an administrator's"):
        Redash(world.fake.url, somebody.api_key).version()


def test_a_redash_that_is_not_there_is_told() -> None:
    """With the address, and what to do."""
    with pytest.raises(RedashError, match=r"at http://127\.0\.0\.1:1 does not answer"):
        Redash("http://127.0.0.1:1", "x").version()
    with pytest.raises(RedashError, match="must be an address such as"):
        Redash("localhost:5000", "x")


def test_a_slow_worker_is_waited_for(world: World) -> None:
    """Jobs that take their time are polled until they end."""
    world.fake.slow_worker(3)
    assert world.apply().failed == {}


def test_a_worker_that_is_not_there_is_told(world: World) -> None:
    """Jobs would wait for ever; with a worker the same command completes it."""
    world.fake.no_worker()
    with pytest.raises(RedashError, match="no worker of Redash took a query"):
        world.apply(limit_s=0.2)
    world.fake.mend()
    assert world.apply().failed == {}
    assert world.written() == []


def test_a_query_that_does_not_run_holds_nothing_else_up(world: World) -> None:
    """It is told with Redash's words, everything else is there, and the next apply runs it again."""
    world.fake.give("new_players", 'relation "days" does not exist')
    assert world.apply().failed == {"daily_actives": 'relation "days" does not exist'}
    assert len(world.page()["widgets"]) == 3
    assert [(one.key, one.runs) for one in world.plan().changes] == [("daily_actives", True)]
    world.fake.give("new_players", ANSWERS["new_players"])
    assert world.apply().failed == {}
    assert world.written() == []


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"day": "date", "others": "integer"}, "the columns day, others, and promises others"),
        (
            {"day": "date", "new_players": None, "others": "integer"},
            "column new_players is of type text, and promised as integer",
        ),
    ],
)
def test_an_answer_is_held_against_what_was_promised(
    world: World, columns: dict[str, str | None], said: str
) -> None:
    """A chart of a column that is not there is empty, and nobody would be told."""
    world.fake.give("new_players", Canned(columns, []))
    assert said in world.apply().failed["daily_actives"]


def test_two_at_once_do_not_overwrite_each_other(world: World) -> None:
    """A dashboard that somebody changes meanwhile is looked at again, and then brought to the files."""
    world.apply()
    page = world.page()
    world.write(**{"dashboards/players.yaml": DASHBOARD.replace("name: Players", "name: All")})
    world.fake.refuse("POST", f"/api/dashboards/{page['id']}", 409)
    world.apply()
    assert world.page()["name"] == "All"
    world.write()
    world.fake.refuse("POST", f"/api/dashboards/{page['id']}", 409, times=None)
    with pytest.raises(RedashError, match="somebody is at work on the dashboard Players"):
        world.apply()


def test_two_applies_from_nothing_leave_one_of_each(world: World) -> None:
    """Whoever finds its own second archives it; what both put on one page, the next apply takes away."""
    spec, redash = folder.read(world.folder), world.redash
    looked = [
        (source.find(redash, DATABASE), found.read(redash, spec.dashboards)) for _ in range(2)
    ]
    with ThreadPoolExecutor() as pool:
        for at, have in looked:
            pool.submit(applying.apply, redash, spec, have, at, limit_s=5.0, tell=lambda *_: None)
    world.apply()
    _is_once(world)


def test_an_apply_that_looked_before_another_began_leaves_one_of_each(world: World) -> None:
    """The same, where one of the two is done before the other makes its first."""
    spec, redash = folder.read(world.folder), world.redash
    at, have = source.find(redash, DATABASE), found.read(redash, spec.dashboards)
    world.apply()
    applying.apply(redash, spec, have, at, limit_s=5.0, tell=lambda *_: None)
    world.apply()
    _is_once(world)


def _is_once(world: World) -> None:
    assert world.written() == []
    assert world.drift() == []
    names = [one["name"] for one in world.redash.all("/api/queries")]
    assert sorted(names) == ["Daily actives", "Days"]
    assert [one["name"] for one in world.redash.all("/api/dashboards")] == ["Players"]
    assert len(world.page()["widgets"]) == 3
    assert len(world.query("daily_actives")["visualizations"]) == 2
    assert len(world.redash.get("/api/alerts")) == 1
    assert len(world.redash.get("/api/data_sources")) == 1


def test_a_page_that_shows_what_was_made_twice_is_whole_after_the_next(world: World) -> None:
    """Redash removes the widget of a chart with it, also from a page that had nothing to be done with."""
    world.apply()
    redash, query, page = world.redash, world.query("daily_actives"), world.page()
    chart = query["visualizations"][1]
    body = {key: chart[key] for key in ("name", "type", "description", "options")}
    twin = redash.post("/api/visualizations", {**body, "query_id": query["id"]})
    (shown,) = [
        one for one in page["widgets"] if one.get("visualization", {}).get("id") == chart["id"]
    ]
    redash.delete(f"/api/widgets/{shown['id']}")
    redash.post(
        "/api/widgets",
        {"dashboard_id": page["id"], "visualization_id": twin["id"], "text": "", "width": 1,
         "options": shown["options"]},
    )  # fmt: skip
    world.apply()
    _is_once(world)


def test_a_widget_that_goes_with_a_query_begun_twice_is_not_removed_again(world: World) -> None:
    """Redash removes the widgets of a query that is archived, and answers 500 when they are removed again."""
    world.apply()
    redash, query, page = world.redash, world.query("daily_actives"), world.page()
    begun = redash.post(
        "/api/queries",
        {"name": query["name"], "query": query["query"], "data_source_id": query["data_source_id"],
         "options": {"parameters": [], "infamous": {"key": "daily_actives"}}},
    )  # fmt: skip
    place = {"col": 0, "row": 30, "sizeX": 3, "sizeY": 3}
    redash.post(
        "/api/widgets",
        {"dashboard_id": page["id"], "visualization_id": begun["visualizations"][0]["id"],
         "text": "", "width": 1,
         "options": {"position": place, "infamous": {"key": "daily_actives/Gone"}}},
    )  # fmt: skip
    world.apply()
    _is_once(world)


def test_what_two_applies_both_made_is_there_once_after_the_next(world: World) -> None:
    """A widget, a chart and an alert that are there twice, and a query and a page that were begun twice."""
    world.apply()
    redash, query, page = world.redash, world.query("daily_actives"), world.page()
    chart = query["visualizations"][1]
    body = {key: chart[key] for key in ("name", "type", "description", "options")}
    second = redash.post("/api/visualizations", {**body, "query_id": query["id"]})
    (alert,) = redash.get("/api/alerts")
    body = {key: alert[key] for key in ("name", "options", "rearm")}
    redash.post("/api/alerts", {**body, "query_id": query["id"]})
    widget = next(one for one in page["widgets"] if "visualization" in one)
    body = {"text": "", "width": 1, "options": widget["options"], "dashboard_id": page["id"]}
    redash.post("/api/widgets", {**body, "visualization_id": second["id"]})
    begun = {"infamous": {"key": "daily_actives"}}
    redash.post(
        "/api/queries",
        {"name": "Daily actives", "query": "select 1", "options": begun,
         "data_source_id": query["data_source_id"]},
    )  # fmt: skip
    redash.post("/api/dashboards", {"name": found.UNBORN.format(key="players")})
    assert [(one.kind, one.key) for one in world.plan().left] == [
        ("dashboard", "players"),
        ("query", "daily_actives"),
    ]
    world.apply()
    _is_once(world)
    assert world.query("daily_actives")["id"] == query["id"]


def test_an_answer_of_somebodys_sql_does_not_stay(world: World) -> None:
    """Who changes the SQL in Redash runs it there: with the SQL, the answer comes back as well."""
    world.apply()
    query = world.query("daily_actives")
    world.redash.post(f"/api/queries/{query['id']}", {"query": "select 1"})
    assert [(one.key, one.runs) for one in world.plan().changes] == [("daily_actives", True)]
    before = len(world.fake.ran)
    world.apply()
    assert len(world.fake.ran) == before + 1
    assert world.written() == []


def test_more_than_a_page_of_others_hides_nothing(world: World) -> None:
    """Redash lists 250 at a time: ours are found behind any number of others', and not made again."""
    world.apply()
    (known,) = world.redash.get("/api/data_sources")
    for number in range(260):
        world.redash.post(
            "/api/queries",
            {"name": f"Other {number}", "query": "select 1", "data_source_id": known["id"]},
        )
    assert world.written() == []
    newer = LIST.replace("name: Days", "name: Last days")
    world.write(**{"last_days.sql": newer})
    assert len(world.written()) == 1
