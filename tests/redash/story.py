"""The recorded day again, in chapters: a player flows in, and each sets up through the API what it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tests.redash.player import Player
from tests.redash.recorded import pairs
from tests.redash.sql import Canned, options_of

Chapter = Callable[[Player], None]

_REVENUE: Final = "sum(amount) as revenue, count(*)"
_BY_PRODUCT: Final = "select region, product"
_PERIOD: Final = {"start": "2026-01-01", "end": "2026-06-30"}


# -- what chapters start from ----------------------------------------------------------------------


def _source(player: Player) -> None:
    player.play("data_source_create")


def _query(player: Player, number: int, text: str = "select 1", **more: Any) -> Any:
    """A query with that id, and its visualization wherever the numbers are."""
    player.skip(queries=number)
    body = {"name": "q", "query": text, "data_source_id": 1} | more
    return player.done("POST", "/api/queries", body)


def _same_query(player: Player, recorded: dict[str, Any], result: int) -> None:
    """A published query as a recording has it, with that result."""
    named = ("name", "description", "query", "options", "tags", "data_source_id")
    player.skip(queries=recorded["id"])
    number = player.done("POST", "/api/queries", {name: recorded[name] for name in named})["id"]
    player.done("POST", f"/api/queries/{number}", {"is_draft": False})
    player.skip(results=result)
    values = {one["name"]: one["value"] for one in recorded["options"].get("parameters", [])}
    player.run(f"/api/queries/{number}/results", {"max_age": 0, "parameters": values})


def _orders(player: Player) -> None:
    """Query 1, published, with result 3 and a chart; query 2 was never run with its default values."""
    _source(player)
    player.give(_REVENUE, "viewer_execute_saved_query_cached")
    player.give(_BY_PRODUCT, "query_result_with_parameters")
    player.play("query_create_minimal", "query_create_full")
    player.skip(results=3)
    player.run("/api/queries/1/results")
    player.done("POST", "/api/queries/1", {"is_draft": False})
    player.skip(visualizations=4)
    player.play("visualization_create")


def _board(player: Player) -> None:
    """Board 2 at version 4 with a chart and a text, and two boards nobody needs."""
    _orders(player)
    player.skip(dashboards=2)
    player.play(
        "dashboard_create",
        "dashboard_create_duplicate_name",
        "dashboard_create_extra_fields_ignored",
        "dashboard_update_publish",
        "dashboard_update_noop",
        "dashboard_update_without_version",
    )


def _filled_board(player: Player) -> None:
    _board(player)
    player.play("widget_create", "widget_create_textbox")


def _viewer(player: Player, *groups: int) -> str:
    """User 2 in these groups; the key."""
    if not player.fake.state.groups.get(3):
        player.play("group_create", "group_create_duplicate_name", "group_rename")
    player.play("user_create_no_invite")
    link = player.last.json["invite_link"].removeprefix(player.fake.url)
    player.ask("POST", link, form={"password": "viewer-pw"}, key="")
    player.cookies.clear()
    made = player.done("POST", "/api/users/2", {"group_ids": list(groups)})
    player.keys["TESTKEY018"] = player.keys["TESTKEY_VIEWER"] = made["api_key"]
    return str(made["api_key"])


def _real_board(player: Player) -> None:
    """Board 2 as it was at the end: version 5, five widgets on four queries, a favourite."""
    _board(player)
    whole = pairs()["dashboard_get_full_with_widgets"].json
    player.skip(visualizations=62)
    for number, widget in enumerate(whole["widgets"][1:], start=27):
        _same_query(player, widget["visualization"]["query"], number)
    for widget in sorted(whole["widgets"][1:], key=lambda one: int(one["visualization"]["id"])):
        drawn = widget["visualization"]
        if drawn["type"] == "TABLE" and drawn["name"] == "Table":
            continue
        player.skip(visualizations=drawn["id"])
        named = ("name", "type", "description", "options")
        body = {"query_id": drawn["query"]["id"]} | {name: drawn[name] for name in named}
        player.done("POST", "/api/visualizations", body)
    player.skip(widgets=41)
    player.play(
        "widget_create_real_0_0",
        "widget_create_real_0_2",
        "widget_create_real_3_2",
        "widget_create_real_0_10",
        "widget_create_real_6_10",
    )
    player.done("POST", "/api/dashboards/2", {"options": {"globalParamOrder": ["period"]}})
    player.play("dashboard_favorite")


# -- the chapters ----------------------------------------------------------------------------------


def opening(player: Player) -> None:
    """Nobody is there yet; the first admin comes through the browser and gets a key."""
    player.play(
        "presetup_ping",
        "presetup_root",
        "presetup_login",
        "presetup_status_json",
        "presetup_api_session",
        "presetup_api_config",
        "setup_post_without_csrf",
    )
    player.ask("GET", "/setup", key="")
    player.play(
        "setup_post_invalid_password", "setup_post_ok", "setup_get_when_done", "setup_post_again"
    )
    player.cookies.pop("session")
    player.play("login_post_without_csrf", "login_post_ok")
    player.play("session_cookie", "user_self_with_api_key", "session_post_without_csrf_header")
    player.play("user_regenerate_api_key_session")
    player.play("status_json")
    player.cookies.clear()
    player.play(
        "session_unauthenticated",
        "session_bad_key",
        "session_api_key",
        "config_anonymous",
        "ping",
        "organization_status",
        "group_list",
        "unknown_api_get_returns_spa_html",
        "unknown_api_path_post",
    )
    player.play("organization_settings")
    player.play("organization_settings_update", "organization_settings_unknown_key")


def data_sources(player: Player) -> None:
    """A source, its secrets, its tests and its tables."""
    _source(player)
    player.play(
        "data_source_list",
        "data_source_get",
        "data_source_get_404",
        "data_source_create_duplicate_name",
        "data_source_create_bad_type",
        "data_source_create_invalid_options",
        "data_source_create_missing_options",
        "data_source_types_pg_only",
        "data_source_test_ok",
        "data_source_update",
        "data_source_update_404",
        "data_source_update_missing_type",
        "data_source_update_keep_password",
        "data_source_update_drops_password",
    )
    player.fake.give("SELECT 1", "fe_sendauth: no password supplied\n")
    player.play(
        "data_source_test_fail",
        "data_source_delete",
        "data_source_delete_404",
        "data_source_schema_job",
        "job_schema_finished",
        "data_source_schema_cached",
        "data_source_pause",
    )


def queries(player: Player) -> None:
    """Making, changing, listing, archiving and forking."""
    _source(player)
    player.play(
        "query_create_minimal",
        "query_create_full",
        "query_publish",
        "query_update_noop",
        "query_update_without_version",
        "query_update_conflict_409",
        "query_update_404",
        "query_get",
        "query_get_404",
        "query_list",
        "query_search",
        "query_tags",
        "query_list_by_tags_empty",
        "query_list_page2_of_empty_404",
        "query_list_page_out_of_range",
        "query_list_page_size_too_large",
        "query_create_missing_data_source_id",
        "query_create_missing_name",
        "query_create_missing_query",
        "query_create_null_data_source",
        "query_create_unknown_data_source",
        "query_create_unknown_field",
        "query_acl_list_empty",
        "query_results_none_404",
    )
    _query(player, 4, pairs()["query_create_minimal"].body["query"], name="Orders by day")
    player.play("query_archive", "query_get_archived", "query_archive_list", "query_unarchive")


def later_queries(player: Player) -> None:
    """What goes with results: copies, stale pointers, orphans, and a whole body sent back."""
    _orders(player)
    player.skip(queries=5, visualizations=8)
    player.play("query_fork")
    player.skip(results=7)
    player.run("/api/queries/1/results")
    player.done("POST", "/api/queries/1/favorite", {})
    player.play("query_update_full_echo")
    player.skip(visualizations=72)
    _query(
        player,
        31,
        "select 'sched weekly' as n, now() as t",
        name="sched weekly",
        schedule={
            "interval": 604800,
            "time": "08:00",
            "day_of_week": "Monday",
            "until": None,
        },
    )
    player.play("query_update_schedule_null")
    _query(player, 33, "select region from regions")
    player.play("query_name_too_long", "query_create_bad_dropdown_query")
    player.skip(visualizations=88)
    _query(player, 44, "select 1 as a", name="stale test")
    player.skip(results=49)
    player.run("/api/queries/44/results")
    player.play("query_update_sql_keeps_stale_result")


def orphans(player: Player) -> None:
    """A query whose source is gone."""
    _source(player)
    player.skip(visualizations=81)
    player.play("data_source_create_duplicate_name")
    _query(player, 39, "select 1", name="orphan", data_source_id=2)
    player.play("data_source_delete", "query_get_orphaned", "query_execute_orphaned")


def visualizations(player: Player) -> None:
    """All types there are, and what is refused."""
    _source(player)
    player.play("query_create_minimal")
    player.skip(visualizations=4)
    player.play(
        "visualization_create",
        "visualization_create_no_description",
        "visualization_create_missing_query_id",
        "visualization_create_unknown_query",
        "visualization_create_unknown_field",
        "visualization_update",
        "visualization_update_404",
        "visualization_get_returns_spa_html",
        "visualization_list_returns_spa_html",
        "visualization_delete",
        "visualization_delete_404",
    )
    player.skip(visualizations=7)
    player.play("visualization_create_unknown_type_accepted")
    for number in range(6, 24):
        _query(player, number, f"select {number}")
    gallery = [
        pair
        for name, pair in pairs().items()
        if name.startswith("visualization_create") and pair.status == 200 and pair.json["id"] > 27
    ]
    for pair in sorted(gallery, key=lambda one: int(one.json["id"])):
        player.skip(visualizations=pair.json["id"])
        player.play(pair.name)


def dashboards(player: Player) -> None:
    """Boards: made, published, found, in conflict, archived."""
    _board(player)
    player.play(
        "dashboard_create_missing_name",
        "dashboard_create_name_too_long",
        "malformed_body",
        "put_returns_400_csrf",
        "dashboard_update_conflict_409",
        "dashboard_update_404",
        "dashboard_get_404",
        "dashboard_get_by_slug_legacy",
        "dashboard_get_by_slug_without_legacy",
        "dashboard_list",
        "dashboard_list_by_tag",
        "dashboard_my",
        "dashboard_search",
        "dashboard_tags",
        "dashboard_archive",
        "dashboard_archive_404",
        "dashboard_unarchive",
    )


def widgets(player: Player) -> None:
    """Widgets, and a board with them."""
    _filled_board(player)
    player.skip(widgets=4)
    player.play(
        "widget_create_no_text",
        "widget_create_missing_visualization_id",
        "widget_create_missing_width",
        "widget_create_unknown_dashboard",
        "widget_create_unknown_visualization",
        "widget_create_unknown_field",
        "widget_update",
        "widget_update_missing_options",
        "widget_update_missing_text",
        "widget_update_visualization_ignored",
        "widget_delete",
        "widget_delete_404",
        "dashboard_get",
        "dashboard_fork",
    )
    player.skip(visualizations=79)
    player.done(
        "POST", "/api/visualizations", {"query_id": 1, "name": "n", "type": "TABLE", "options": {}}
    )
    body = {"dashboard_id": 2, "visualization_id": 79, "width": 1, "text": "", "options": {}}
    player.done("POST", "/api/widgets", body)
    player.play("visualization_delete_in_use", "dashboard_get")
    player.skip(widgets=41)
    player.play("widget_get_returns_spa_html")


def shared_boards(player: Player) -> None:
    """What the public sees and may run."""
    _filled_board(player)
    player.play(
        "dashboard_share",
        "dashboard_get_shared",
        "dashboard_public_get",
        "dashboard_public_bad_token",
        "public_execute_cached",
        "public_execute_query_not_on_dashboard",
        "dashboard_share_again",
        "dashboard_unshare",
    )


def the_real_board(player: Player) -> None:
    """A whole board on queries with parameters, to its owner, to a stranger and to the public."""
    _real_board(player)
    player.play("dashboard_get_full_with_widgets", "visualization_update_echo_with_query")
    player.keys["TESTKEY008"] = player.done("POST", "/api/dashboards/2/share", {})["api_key"]
    player.keys["TESTSHARETOKEN"] = player.keys["TESTKEY008"]
    player.fake.give("250000 as target", None)
    player.give("250000 as target", "public_execute_with_parameters_cached")
    player.run("/api/queries/24/results", {"max_age": 0, "parameters": {"period": _PERIOD}})
    player.play(
        "public_execute_with_parameters_cached",
        "public_execute_with_parameters_job",
        "public_result_by_id",
    )
    _query(player, 33, "select region from regions", name="regions")
    player.skip(visualizations=75)
    player.play("query_create_all_parameter_types")
    player.play("public_execute_text_parameter_unsafe")
    _viewer(player, 3)
    player.done("POST", "/api/dashboards/2", {})
    player.play("dashboard_get_restricted_widgets", "query_get_forbidden")
    player.done("POST", "/api/groups/3/data_sources", {"data_source_id": 1})
    player.done("POST", "/api/groups/3/data_sources/1", {"view_only": True})
    player.play("viewer_execute_text_parameter_unsafe")
    player.done("POST", "/api/settings/organization", {"disable_public_urls": True})
    player.play("dashboard_public_disabled")


def runs(player: Player) -> None:
    """Jobs, results, parameters."""
    _source(player)
    player.give(_REVENUE, "viewer_execute_saved_query_cached")
    player.give(_BY_PRODUCT, "query_result_with_parameters")
    player.play("query_create_minimal", "query_create_full")
    player.play("query_execute_job", "job_finished", "job_unknown")
    player.play(
        "query_execute_missing_parameters",
        "query_execute_bad_parameter",
        "query_execute_unknown_parameter",
        "query_execute_with_parameters",
    )
    player.done("GET", "/api/session")
    player.play(
        "query_execute_cached_result",
        "query_result_with_parameters",
        "query_refresh",
        "query_refresh_with_parameters",
        "adhoc_execute_no_data_source",
    )
    player.done("GET", "/api/session")
    values = {"period": _PERIOD, "channel": ["web", "shop"]}
    _give_csv(player, "query_results_csv")
    player.run("/api/queries/2/results", {"max_age": 0, "parameters": values})
    player.play("query_results_csv", "query_results_csv_none")
    player.skip(results=7)
    player.run("/api/queries/1/results")
    player.play("query_results_json")
    player.fake.slow_worker(3)
    player.jobs["56662d9e-e6d1-445e-9c38-b25fd6ac122e"] = player.done(
        "POST", "/api/query_results", {"query": "select pg_sleep(60)", "data_source_id": 1}
    )["job"]["id"]
    player.done("GET", f"/api/jobs/{player.jobs['56662d9e-e6d1-445e-9c38-b25fd6ac122e']}")
    player.play("job_started", "job_cancel", "job_cancelled")
    player.fake.mend()
    _query(player, 33, "select region from regions", name="regions")
    player.play("query_dropdown_no_result")
    _give_rows(player, "from regions", [one["value"] for one in pairs()["query_dropdown"].json])
    player.run("/api/queries/33/results")
    player.play("query_dropdown")


def _give_csv(player: Player, name: str) -> None:
    head, *lines = (pairs()[name].text or "").splitlines()
    names = head.split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines]
    player.fake.give(_BY_PRODUCT, Canned(dict.fromkeys(names), rows))


def _give_rows(player: Player, part: str, values: list[str]) -> None:
    player.fake.give(part, Canned({"region": None}, [{"region": one} for one in values]))


def alerts(player: Player) -> None:
    """Alerts, destinations, subscriptions and snippets."""
    _orders(player)
    player.skip(results=7)
    player.run("/api/queries/1/results")
    player.play(
        "alert_create",
        "alert_create_missing_query_id",
        "alert_create_unknown_query",
        "alert_update",
        "alert_get",
        "alert_get_404",
        "alert_list",
        "destination_create_webhook",
        "destination_create_duplicate",
        "destination_list",
        "alert_subscribe",
        "alert_subscribe_again",
        "alert_subscriptions",
        "alert_subscribe_self_email",
        "alert_unsubscribe",
        "alert_mute",
        "alert_eval",
        "snippet_create",
        "snippet_create_duplicate",
        "snippet_list",
    )


def groups(player: Player) -> None:
    """Groups, members and what they may use."""
    _source(player)
    player.play(
        "group_create",
        "group_create_duplicate_name",
        "group_rename",
        "group_rename_builtin",
        "group_delete",
        "group_delete_builtin",
    )
    _viewer(player)
    player.play("user_set_groups", "user_create_duplicate", "group_members", "user_list")
    player.done("POST", "/api/groups/3/data_sources", {"data_source_id": 1})
    player.play(
        "group_add_data_source_again",
        "group_data_source_view_only_500_after_duplicate_attach",
        "group_data_sources_500_after_duplicate_attach",
        "group_remove_data_source",
        "group_data_source_404",
    )
    player.done("POST", "/api/groups", {"name": "another"})
    player.play(
        "group_add_data_source",
        "group_data_sources",
        "group_data_source_view_only",
        "group_add_member",
        "group_add_member_again",
        "group_remove_member",
        "group_remove_member_again",
        "group_remove_non_member",
    )
    player.play("group_default_view_only", "data_source_list_admin_view_only")


def viewers(player: Player) -> None:
    """Somebody who may only look."""
    _filled_board(player)
    _viewer(player, 3)
    player.done("POST", "/api/groups/3/data_sources", {"data_source_id": 1})
    player.done("POST", "/api/groups/3/data_sources/1", {"view_only": True})
    player.play(
        "viewer_dashboards",
        "viewer_dashboard_get",
        "viewer_data_sources",
        "viewer_execute_saved_query_cached",
        "viewer_execute_saved_query",
        "viewer_adhoc_forbidden",
        "viewer_create_data_source_forbidden",
        "viewer_create_query_forbidden",
        "viewer_update_dashboard_forbidden",
        "dashboard_acl_grant",
        "dashboard_acl_list",
        "dashboard_acl_revoke",
    )


def users(player: Player) -> None:
    """A user is disabled; too many are asked for."""
    player.skip(users=4)
    made = player.fake.add_user("Ada", 1, 2)
    player.keys["TESTKEY_DISABLED_USER"] = made.api_key
    player.play("user_disable", "session_disabled_user")
    for _ in range(50):
        player.ask("POST", "/api/users?no_invite", {"name": "Ada", "email": "ada@example.com"})
    player.play("user_create_rate_limited_429")


CHAPTERS: Final[tuple[Chapter, ...]] = (
    opening,
    data_sources,
    queries,
    later_queries,
    orphans,
    visualizations,
    dashboards,
    widgets,
    shared_boards,
    the_real_board,
    runs,
    alerts,
    groups,
    viewers,
    users,
)


# -- the one chapter that needs a database ---------------------------------------------------------

ON_POSTGRES: Final = (
    "data_source_test_ok",
    "adhoc_execute",
    "query_result_adhoc",
    "job_failed_sql_error",
    "query_result_postgres_types",
)


def on_postgres(player: Player, database_url: str) -> None:
    """Runs whose answers Postgres itself makes. There has to be a table `orders`."""
    tested, asked, answered, failed, typed = ON_POSTGRES
    source = {"name": "demo", "type": "pg", "options": options_of(database_url)}
    player.done("POST", "/api/data_sources", source)
    player.play(tested)
    player.skip(results=4)
    player.play(asked, answered)
    wrong = {"query": "select nope from orders", "data_source_id": 1}
    job = player.done("POST", "/api/query_results", wrong)["job"]["id"]
    player.jobs[pairs()[failed].json["job"]["id"]] = job
    player.play(failed)
    player.skip(results=58)
    types = pairs()[typed].json["query_result"]["query"]
    player.run("/api/query_results", {"query": types, "data_source_id": 1})
    player.play(typed)
