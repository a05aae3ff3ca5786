"""Dashboards, their widgets and their share tokens: calls flow in, answers flow out."""

from __future__ import annotations

from typing import Any, Final

from tests.redash import shapes
from tests.redash.answer import CONFLICT, NO_LOGIN, Answer, broken, not_found, refused, shown
from tests.redash.call import Call
from tests.redash.jsonb import kept
from tests.redash.listing import ordered, paged, tag_counts, tagged
from tests.redash.state import Dashboard, Widget
from tests.redash.state import new_key as new_token

_LONGEST_NAME: Final = 100
_WIDGET_KEYS: Final = ("dashboard_id", "visualization_id", "text", "width", "options")


def _widgets(call: Call, board: Dashboard) -> list[shapes.Shape]:
    return [
        shapes.widget(call.state, one) if call.may_see_widget(one) else shapes.restricted(one)
        for one in call.state.widgets_of(board)
    ]


def _whole(call: Call, board: Dashboard) -> shapes.Shape:
    likes = call.likes("dashboards", board)
    return shapes.dashboard(call.state, board, likes, _widgets(call, board))


def _free_slug(call: Call, name: str) -> str:
    """The database's own slug has a number where it is taken; what is shown has none."""
    taken = {one.slug for one in call.state.dashboards}
    base = shapes.slug(name)
    slugs = [base, *(f"{base}_{number}" for number in range(1, len(taken) + 1))]
    return next(one for one in slugs if one not in taken)


def _check(body: dict[str, Any]) -> None:
    name = body.get("name", "")
    if not isinstance(name, str) or len(name) > _LONGEST_NAME:
        raise broken()


def create(call: Call) -> Answer:
    """POST /api/dashboards: only `name` is read."""
    call.allow("create_dashboard")
    call.need("name")
    _check(call.body)
    name = call.body["name"]
    board = call.state.dashboards.add(
        Dashboard(name=name, slug=_free_slug(call, name), user=call.me.id)
    )
    return shown(shapes.dashboard(call.state, board, favorite=False))


def one(call: Call) -> Answer:
    """GET /api/dashboards/<id>: 500 for a slug, unless `legacy` is asked for."""
    call.allow("list_dashboards")
    if "legacy" in call.params:
        named = call.state.dashboards.where(lambda each: each.slug == call.args["id"])
        if not named:
            raise not_found()
        board = named[0]
    else:
        board = call.find(call.state.dashboards)
    shape = _whole(call, board)
    if board.tokens:
        shape |= shapes.shared(board, call.base)
    return shown(shape | {"can_edit": call.may_change("dashboards", board)})


def update(call: Call) -> Answer:
    """POST /api/dashboards/<id>: the version grows each time; a stale one sent is a conflict."""
    call.allow("edit_dashboard")
    board = call.find(call.state.dashboards, otherwise=broken)
    call.change("dashboards", board)
    body = call.body
    if "version" in body and body["version"] != board.version:
        raise refused(409, CONFLICT)
    _check(body)
    tags = body.get("tags", board.tags)
    if not isinstance(tags, list):
        raise broken()
    board.tags = [tag for tag in tags if tag]
    board.name = body.get("name", board.name)
    board.layout = body.get("layout", board.layout)
    board.is_draft = body.get("is_draft", board.is_draft)
    board.is_archived = body.get("is_archived", board.is_archived)
    board.filters = body.get("dashboard_filters_enabled", board.filters)
    board.options = kept(body.get("options", board.options))
    board.version += 1
    board.touch()
    fresh = {"options": body["options"]} if "options" in body else {}
    return shown(_whole(call, board) | fresh)


def archive(call: Call) -> Answer:
    """DELETE /api/dashboards/<id>: it stays, archived."""
    call.allow("edit_dashboard")
    board = call.find(call.state.dashboards, otherwise=broken)
    call.change("dashboards", board)
    board.is_archived = True
    board.version += 1
    board.touch()
    return shown(_whole(call, board))


def _visible(call: Call) -> list[Dashboard]:
    """In lists: one's own, and what is published and shows a query of one of the caller's groups."""

    def holds(board: Dashboard) -> bool:
        if board.is_archived:
            return False
        queries = [call.state.query_of(each) for each in call.state.widgets_of(board)]
        readable = any(query is not None and call.listed(query.source) for query in queries)
        return board.user == call.me.id or (not board.is_draft and readable)

    return call.state.dashboards.where(holds)


def _listed(call: Call, found: list[Dashboard]) -> Answer:
    return paged(
        call,
        ordered(call, tagged(call, found)),
        lambda each: shapes.dashboard(call.state, each, call.likes("dashboards", each)),
    )


def dashboards(call: Call) -> Answer:
    """GET /api/dashboards, also with `q`, `tags`, `order` and pages."""
    call.allow("list_dashboards")
    wanted = call.param("q").lower()
    return _listed(call, [each for each in _visible(call) if wanted in each.name.lower()])


def mine(call: Call) -> Answer:
    """GET /api/dashboards/my."""
    call.allow("list_dashboards")
    me = call.me.id
    return _listed(
        call, call.state.dashboards.where(lambda each: each.user == me and not each.is_archived)
    )


def favorites(call: Call) -> Answer:
    """GET /api/dashboards/favorites."""
    return _listed(call, [each for each in _visible(call) if call.likes("dashboards", each)])


def tags(call: Call) -> Answer:
    """GET /api/dashboards/tags."""
    call.allow("list_dashboards")
    return tag_counts(_visible(call))


def like(call: Call) -> Answer:
    """POST /api/dashboards/<id>/favorite."""
    board = call.find(call.state.dashboards)
    call.state.favorites.add(("dashboards", board.id, call.me.id))
    return shown(None)


def unlike(call: Call) -> Answer:
    """DELETE /api/dashboards/<id>/favorite."""
    board = call.find(call.state.dashboards)
    call.state.favorites.discard(("dashboards", board.id, call.me.id))
    return shown(None)


def fork(call: Call) -> Answer:
    """POST /api/dashboards/<id>/fork: a draft at version 2; its answer shows no data to anybody."""
    call.allow("edit_dashboard")
    board = call.find(call.state.dashboards)
    name = f"Copy of (#{board.id}) {board.name}"
    copy = call.state.dashboards.add(
        Dashboard(
            name=name,
            slug=_free_slug(call, name),
            user=call.me.id,
            filters=board.filters,
            tags=list(board.tags),
            version=2,
        )
    )
    for each in call.state.widgets_of(board):
        call.state.widgets.add(
            Widget(
                dashboard=copy.id,
                visualization=each.visualization,
                text=each.text,
                width=each.width,
                options=kept(each.options),
            )
        )
    widgets = [
        shapes.widget(call.state, each) if each.visualization is None else shapes.restricted(each)
        for each in call.state.widgets_of(copy)
    ]
    return shown(shapes.dashboard(call.state, copy, favorite=False, widgets=widgets))


# -- widgets ---------------------------------------------------------------------------------------


def _board_of(call: Call, number: object) -> Dashboard:
    board = call.state.dashboards.get(number)
    if board is None:
        raise broken()
    call.change("dashboards", board)
    return board


def create_widget(call: Call) -> Answer:
    """POST /api/widgets: 500 for a key too many, or too few but `text`. The board's version stays."""
    call.allow("edit_dashboard")
    body = call.body
    call.need("dashboard_id", "visualization_id", "width")
    board = _board_of(call, body["dashboard_id"])
    call.only(*_WIDGET_KEYS)
    drawn = call.state.visualizations.get(body["visualization_id"])
    if body["visualization_id"] is not None and drawn is None:
        raise broken()
    widget = call.state.widgets.add(
        Widget(
            dashboard=board.id,
            visualization=drawn.id if drawn else None,
            text=body.get("text"),
            width=body["width"],
            options=kept(body.get("options")),
        )
    )
    return shown(shapes.widget(call.state, widget) | {"options": body.get("options")})


def update_widget(call: Call) -> Answer:
    """POST /api/widgets/<id>: `text` and `options`, both; what it shows cannot be changed."""
    call.allow("edit_dashboard")
    widget = call.find(call.state.widgets, otherwise=broken)
    _board_of(call, widget.dashboard)
    call.need("text", "options")
    widget.text, widget.options = call.body["text"], kept(call.body["options"])
    widget.touch()
    return shown(shapes.widget(call.state, widget) | {"options": call.body["options"]})


def delete_widget(call: Call) -> Answer:
    """DELETE /api/widgets/<id>."""
    call.allow("edit_dashboard")
    widget = call.find(call.state.widgets, otherwise=broken)
    _board_of(call, widget.dashboard)
    call.state.widgets.drop(widget)
    return shown(None)


# -- sharing ---------------------------------------------------------------------------------------


def share(call: Call) -> Answer:
    """POST /api/dashboards/<id>/share: one more live token each time."""
    board = call.find(call.state.dashboards)
    call.change("dashboards", board)
    board.tokens.append(new_token())
    call.state.remember(board.tokens[-1])
    return shown(shapes.shared(board, call.base))


def unshare(call: Call) -> Answer:
    """DELETE /api/dashboards/<id>/share: one token less."""
    board = call.find(call.state.dashboards)
    call.change("dashboards", board)
    if not board.tokens:
        raise not_found()
    board.tokens.pop()
    return shown(None)


def public(call: Call) -> Answer:
    """GET /api/dashboards/public/<token>: for anybody who has the token."""
    boards = call.state.dashboards.where(lambda each: call.args["token"] in each.tokens)
    if not boards:
        raise refused(404, NO_LOGIN)
    if call.state.settings["disable_public_urls"]:
        raise refused(400, "Public URLs are disabled.")
    return shown(shapes.public_dashboard(call.state, boards[0]))
