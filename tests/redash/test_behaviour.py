"""What of Redash's ways no single recorded pair shows, and the switches that make the fake fail."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.redash.fake import Fake
from tests.redash.player import Player
from tests.redash.sql import Canned
from tests.redash.state import DEFAULT_GROUP

_HIDDEN = "hidden-pw"
_RANGE = {
    "name": "period",
    "title": "Period",
    "type": "date-range",
    "value": {"start": "2026-01-01", "end": "2026-06-30"},
}


def _source(player: Player) -> int:
    body = {"name": "demo", "type": "pg", "options": {"dbname": "demo", "password": _HIDDEN}}
    return int(player.done("POST", "/api/data_sources", body)["id"])


def _query(player: Player, text: str = "select 1", **more: Any) -> Any:
    body = {"name": "q", "query": text, "data_source_id": _source(player)} | more
    return player.done("POST", "/api/queries", body)


@pytest.fixture
def player(canned_redash: Fake) -> Player:
    """Speaks to a fake without a database."""
    return Player(canned_redash)


# -- identity, lists and options -------------------------------------------------------------------


def test_who_calls(player: Player) -> None:
    """A key counts bare, after `Key` and in the address; `Bearer` and a disabled user's are nobody's."""
    key = player.fake.admin_key
    assert player.ask("GET", f"/api/session?api_key={key}", key="").status == 200
    host = player.fake.url.removeprefix("http://")
    answers = {}
    for words in (key, f"Key {key}", f"Bearer {key}"):
        connection = http.client.HTTPConnection(host)
        connection.request("GET", "/api/session", headers={"Authorization": words})
        answers[words.split(" ")[0]] = connection.getresponse().status
        connection.close()
    assert answers == {key: 200, "Key": 200, "Bearer": 404}
    gone = player.fake.add_user("Gone", DEFAULT_GROUP)
    player.done("POST", f"/api/users/{gone.id}/disable", {})
    assert player.ask("GET", "/api/session", key=gone.api_key).status == 404


def test_a_query_key_reads_only_its_results(player: Player) -> None:
    """The key of one query opens neither another's results nor anything else."""
    mine, other = _query(player), _query(player, "select 2")
    for query in (mine, other):
        player.run(f"/api/queries/{query['id']}/results")
    key = mine["api_key"]
    assert player.ask("GET", f"/api/queries/{mine['id']}/results", key=key).status == 200
    assert player.ask("GET", f"/api/queries/{other['id']}/results", key=key).status == 403
    assert player.ask("GET", "/api/session", key=key).status == 403


def test_lists_hide_from_admins_too(player: Player) -> None:
    """Another's drafts and boards of texts are not listed, nor queries on a source of no group of mine."""
    query = _query(player)
    other = player.fake.add_user("Other", 1, DEFAULT_GROUP).api_key

    def listed(what: str) -> list[int]:
        return [one["id"] for one in player.done("GET", f"/api/{what}", key=other)["results"]]

    board = player.done("POST", "/api/dashboards", {"name": "b"})["id"]
    widget = {"dashboard_id": board, "visualization_id": None, "width": 1, "text": "t"}
    player.done("POST", "/api/widgets", widget)
    player.done("POST", f"/api/dashboards/{board}", {"is_draft": False})
    assert listed("dashboards") == []
    drawn = query["visualizations"][0]["id"]
    player.done("POST", "/api/widgets", widget | {"visualization_id": drawn})
    assert listed("dashboards") == [board]
    player.done("POST", f"/api/dashboards/{board}", {"is_draft": True})
    assert listed("dashboards") == []
    assert listed("queries") == [query["id"]]
    player.done("DELETE", f"/api/groups/{DEFAULT_GROUP}/data_sources/1")
    assert listed("queries") == []
    assert player.ask("GET", f"/api/queries/{query['id']}").status == 200


def test_options_come_back_in_the_order_of_jsonb(player: Player) -> None:
    """What is sent is echoed as it was; what is read has its keys by length, then bytes, and all of them."""
    query = _query(player)
    sent = {"x_managed": {"key": "k"}, "bb": 1, "a": [{"zz": 1, "y": 2}], "ab": 2}
    echoed = player.ask("POST", f"/api/queries/{query['id']}", {"options": sent}).json["options"]
    assert json.dumps(echoed) == json.dumps(sent)
    read = player.done("GET", f"/api/queries/{query['id']}")["options"]
    ordered = {"a": [{"y": 2, "zz": 1}], "ab": 2, "bb": 1, "x_managed": {"key": "k"}}
    assert json.dumps(read) == json.dumps(ordered)


def test_a_secret_is_kept_only_when_it_is_sent_covered(player: Player) -> None:
    """An echoed mask keeps the password; left out, it is gone. It is never shown."""
    number = _source(player)
    kept = player.fake.state.sources.get(number)
    assert kept is not None
    shown = player.done("GET", f"/api/data_sources/{number}")
    assert shown["options"] == {"dbname": "demo", "password": "--------"}
    player.done("POST", f"/api/data_sources/{number}", shown)
    assert kept.options["password"] == _HIDDEN
    player.done("POST", f"/api/data_sources/{number}", shown | {"options": {"dbname": "demo"}})
    assert "password" not in kept.options


def test_archiving_a_query_takes_its_widgets_and_alerts(player: Player) -> None:
    """And they do not come back with it; its schedule is gone as well."""
    schedule = {"interval": 60, "time": None, "day_of_week": None, "until": None}
    query = _query(player, schedule=schedule)
    board = player.done("POST", "/api/dashboards", {"name": "b"})["id"]
    body = {"dashboard_id": board, "visualization_id": query["visualizations"][0]["id"], "width": 1}
    player.done("POST", "/api/widgets", body)
    player.done("POST", "/api/alerts", {"name": "a", "query_id": query["id"], "options": {}})
    player.done("DELETE", f"/api/queries/{query['id']}")
    player.done("POST", f"/api/queries/{query['id']}", {"is_archived": False})
    assert player.done("GET", f"/api/dashboards/{board}")["widgets"] == []
    assert player.done("GET", "/api/alerts") == []
    assert player.done("GET", f"/api/queries/{query['id']}")["schedule"] is None


def test_unknown_keys_and_nulls(player: Player) -> None:
    """Ignored in updates of queries and boards; null tags and a bare number as a schedule break it."""
    path = f"/api/queries/{_query(player)['id']}"
    assert player.ask("POST", path, {"nonsense": 1}).status == 200
    assert player.ask("POST", path, {"version": None}).status == 409
    assert player.ask("POST", path, {"tags": None}).status == 500
    assert player.ask("POST", path, {"schedule": 3600}).status == 500
    assert player.done("POST", path, {"tags": ["a", ""]})["tags"] == ["a"]


# -- runs ------------------------------------------------------------------------------------------


def test_a_job_waits_runs_and_is_done(player: Player) -> None:
    """1, 2, 3; and as long as it is not over, the same text on the same source is the same job."""
    player.fake.slow_worker(2)
    query = _query(player)
    run = f"/api/queries/{query['id']}/results"
    job = player.done("POST", run, {"max_age": 0})["job"]["id"]
    assert player.done("POST", run, {"max_age": 0})["job"]["id"] == job
    seen = [player.done("GET", f"/api/jobs/{job}")["job"]["status"] for _ in range(4)]
    assert seen == [1, 2, 3, 3]
    assert player.done("POST", run, {"max_age": 0})["job"]["id"] != job


def test_without_a_worker_jobs_wait(player: Player) -> None:
    """Nothing is ever run; a source cannot be tested; mended, it goes on."""
    query = _query(player)
    player.fake.no_worker()
    job = player.done("POST", f"/api/queries/{query['id']}/results", {"max_age": 0})["job"]["id"]
    seen = {player.done("GET", f"/api/jobs/{job}")["job"]["status"] for _ in range(5)}
    assert seen == {1}
    assert player.ask("POST", "/api/data_sources/1/test", {}).status == 500
    player.fake.mend()
    assert player.done("GET", f"/api/jobs/{job}")["job"]["status"] == 3


def test_a_failing_text_fails_its_job(player: Player) -> None:
    """Status 4 with the database's words, and no result."""
    player.fake.give("from nowhere", "no such table\n")
    query = _query(player, "select 1 from nowhere")
    job = player.run(f"/api/queries/{query['id']}/results")
    assert (job["status"], job["error"], job["result"]) == (4, "no such table\n", None)


def test_only_the_default_values_make_a_querys_own_result(player: Player) -> None:
    """Other values give a result, but the query does not point at it."""
    text = "select '{{ period.start }}'"
    query = _query(player, text, options={"parameters": [_RANGE]})
    path = f"/api/queries/{query['id']}"

    def ran(start: str) -> Any:
        values = {"period": {"start": start, "end": "2026-06-30"}}
        player.run(f"{path}/results", {"max_age": 0, "parameters": values})
        return player.done("GET", path)["latest_query_data_id"]

    assert ran("2026-05-01") is None
    assert ran("2026-01-01") == 2
    assert player.fake.ran == ["select '2026-05-01'", "select '2026-01-01'"]


def test_a_new_text_keeps_the_old_result_until_it_runs(player: Player) -> None:
    """Unless a result of that text is there; white space and comments make no new text."""
    query = _query(player, "select 1 as a")
    path = f"/api/queries/{query['id']}"
    player.run(f"{path}/results")
    assert player.done("POST", path, {"query": "select 2 as a"})["latest_query_data_id"] == 1
    player.run(f"{path}/results")
    assert player.done("POST", path, {"query": "select 1  as a -- x"})["latest_query_data_id"] == 1
    assert _query(player, "select 9")["latest_query_data_id"] is None


def test_dynamic_dates_are_for_browsers(player: Player) -> None:
    """Stored, they are welcome; run over the API they fit nothing."""
    query = _query(player, "select '{{ period.start }}'", options={"parameters": [_RANGE]})
    run = f"/api/queries/{query['id']}/results"
    got = player.ask("POST", run, {"parameters": {"period": "d_last_30_days"}})
    assert (got.status, got.json["message"][-6:]) == (400, "period")


def test_what_fits_a_parameter(player: Player) -> None:
    """A number, a pattern and a list where several may be chosen."""
    parameters = [
        {"name": "n", "type": "number", "value": 1},
        {"name": "p", "type": "text-pattern", "regex": "[a-c]+", "value": "a"},
        {"name": "e", "type": "enum", "enumOptions": "x\ny", "value": "x"},
    ]
    query = _query(player, "select {{n}} {{p}} {{e}}", options={"parameters": parameters})
    run = f"/api/queries/{query['id']}/refresh"

    def status(n: str, p: str, e: str) -> int:
        return player.ask("POST", f"{run}?p_n={n}&p_p={p}&p_e={e}").status

    assert status("1.5", "abc", "y") == 200
    assert [status("x", "a", "x"), status("1", "d", "x"), status("1", "a", "z")] == [400] * 3
    several = {"parameters": {"n": 1, "p": "a", "e": ["x"]}}
    assert player.ask("POST", f"/api/queries/{query['id']}/results", several).status == 400


def test_the_scheduler_looks(player: Player) -> None:
    """A schedule with keys missing is switched off; a whole one runs; one with a dynamic date never does."""
    whole = {"interval": 60, "time": None, "day_of_week": None, "until": None}
    short = _query(player, "select 1", schedule={"interval": 60})["id"]
    good = _query(player, "select 2", schedule=whole)["id"]
    dynamic = _RANGE | {"value": "d_last_30_days"}
    bad = _query(
        player,
        "select '{{ period.start }}'",
        schedule=whole,
        options={"parameters": [dynamic]},
    )["id"]
    player.fake.tick()
    read = {one: player.done("GET", f"/api/queries/{one}") for one in (short, good, bad)}
    assert read[short]["schedule"] == {"interval": 60, "disabled": True}
    assert [read[one]["latest_query_data_id"] for one in (short, good, bad)] == [None, 1, None]


def test_an_alert_weighs_every_new_result(player: Player) -> None:
    """Unknown, then what the newest result says."""
    player.fake.give("revenue", Canned({"revenue": "float"}, [{"revenue": 50.0}]))
    query = _query(player, "select revenue")
    options = {"column": "revenue", "op": "<", "value": 100, "selector": "first"}
    body = {"name": "low", "query_id": query["id"], "options": options}
    number = player.done("POST", "/api/alerts", body)["id"]
    run = f"/api/queries/{query['id']}/results"
    player.run(run)
    assert player.done("GET", f"/api/alerts/{number}")["state"] == "triggered"
    player.fake.give("revenue", Canned({"revenue": "float"}, [{"revenue": 500.0}]))
    player.run(run)
    assert player.done("GET", f"/api/alerts/{number}")["state"] == "ok"


# -- what goes wrong on purpose --------------------------------------------------------------------


def test_it_refuses_so_many_times(player: Player) -> None:
    """The answer that was ordered, headers too, and then the real one."""
    player.fake.refuse(
        "GET", "^/api/queries$", 429, '{"message": "slow"}', 2, headers={"Retry-After": "1"}
    )
    got = [player.ask("GET", "/api/queries") for _ in range(3)]
    assert [one.status for one in got] == [429, 429, 200]
    assert (got[0].json, got[0].headers["Retry-After"]) == ({"message": "slow"}, "1")


@pytest.mark.parametrize("done", [True, False])
def test_it_cuts_the_line_after_so_many_writes(player: Player, done: bool) -> None:
    """The next write is answered by nobody, whether it was done or not; reading goes on."""
    player.fake.cut(after_writes=1, done=done)
    player.done("POST", "/api/dashboards", {"name": "a"})
    with pytest.raises(ConnectionError):
        player.ask("POST", "/api/dashboards", {"name": "b"})
    assert player.done("GET", "/api/dashboards")["count"] == (2 if done else 1)
    player.done("POST", "/api/dashboards", {"name": "c"})
    assert [one.status for one in player.fake.writes] == [200, None, 200]


def test_it_stays_down_until_it_is_mended(player: Player) -> None:
    """Cut for good, nothing is answered; the state stays."""
    player.fake.cut(for_good=True)
    for method, body in (("POST", {"name": "a"}), ("GET", None)):
        with pytest.raises(ConnectionError):
            player.ask(method, "/api/dashboards", body)
    player.fake.mend()
    assert player.done("GET", "/api/dashboards")["count"] == 1


def test_something_else_answers(player: Player) -> None:
    """A page with 200, whatever is asked."""
    player.fake.html_everywhere()
    got = player.ask("GET", "/api/session")
    assert (got.status, got.headers["Content-Type"][:9]) == (200, "text/html")


def test_it_is_of_any_version(player: Player) -> None:
    """As the session tells it."""
    player.fake.version = "25.8.0"
    assert player.done("GET", "/api/session")["client_config"]["version"] == "25.8.0"


def test_the_journal_tells_writes_from_runs(player: Player) -> None:
    """Runs and looks are no writes; bodies are kept as sent; no key stands in a line but in a body."""
    query = _query(player)
    player.fake.forget()
    player.run(f"/api/queries/{query['id']}/results")
    player.done("POST", "/api/data_sources/1/test", {})
    assert player.fake.writes == []
    player.done("POST", f"/api/queries/{query['id']}", {"tags": ["a"]})
    (write,) = player.fake.writes
    assert (write.method, write.path, write.body) == ("POST", "/api/queries/1", {"tags": ["a"]})
    assert len(player.fake.requests) == 4
    told = repr(player.fake.requests)
    assert not [secret for secret in player.fake.secrets if secret in told]
    assert {query["api_key"], player.fake.admin_key, _HIDDEN} <= player.fake.secrets


def test_a_fault_of_the_fakes_own_is_told() -> None:
    """A handler that breaks is a 500 to the caller and an error to the test, never silence."""
    fake = Fake(canned=Canned())
    fake.start()
    player = Player(fake)
    fake.state.users = None  # type: ignore[assignment]
    assert player.ask("GET", "/api/session").status == 500
    with pytest.raises(AttributeError):
        fake.stop()
