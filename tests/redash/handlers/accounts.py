"""Sessions, users, groups and settings: calls flow in, answers flow out."""

from __future__ import annotations

from typing import Any, Final

from tests.redash import shapes
from tests.redash.answer import FORBIDDEN, Answer, broken, not_found, refused, shown
from tests.redash.call import Call
from tests.redash.listing import paged
from tests.redash.state import DEFAULT_GROUP, Grant, Group, Permit, Source, User, now

_USERS_AN_HOUR: Final = 50
_REFRESH: Final = (
    [60, 300, 600, 900, 1800]
    + [hours * 3600 for hours in range(1, 13)]
    + [days * 86400 for days in (1, 7, 14, 30)]
)


def client_config(call: Call) -> dict[str, Any]:
    """What the front end is told without a login."""
    settings = call.state.settings
    dates = ["DD/MM/YY", "YYYY-MM-DD", "MM/DD/YY"]
    return {
        "allowScriptsInUserInput": False,
        "showPermissionsControl": settings["feature_show_permissions_control"],
        "hidePlotlyModeBar": settings["hide_plotly_mode_bar"],
        "disablePublicUrls": settings["disable_public_urls"],
        "multiByteSearchEnabled": settings["multi_byte_search_enabled"],
        "allowCustomJSVisualizations": True,
        "autoPublishNamedQueries": True,
        "extendedAlertOptions": False,
        "mailSettingsMissing": True,
        "dashboardRefreshIntervals": [60, 300, 600, 1800, 3600, 43200, 86400],
        "queryRefreshIntervals": _REFRESH,
        "googleLoginEnabled": False,
        "ldapLoginEnabled": False,
        "pageSize": 20,
        "pageSizeOptions": [5, 10, 20, 50, 100],
        "tableCellMaxJSONSize": 50000,
        "basePath": f"{call.base}/",
        "dateFormat": settings["date_format"],
        "dateFormatList": dates,
        "timeFormatList": ["HH:mm", "HH:mm:ss", "HH:mm:ss.SSS"],
        "dateTimeFormat": f"{settings['date_format']} {settings['time_format']}",
        "integerFormat": settings["integer_format"],
        "floatFormat": settings["float_format"],
        "nullValue": settings["null_value"],
    }


def config(call: Call) -> Answer:
    """GET /api/config: for anybody."""
    return shown({"org_slug": "default", "client_config": client_config(call)})


def session(call: Call) -> Answer:
    """GET /api/session: who calls, and the version."""
    me = call.me
    about = {
        "newVersionAvailable": False,
        "version": call.version,
        "showBeaconConsentMessage": "beacon_consent" not in call.state.settings,
    }
    return shown(
        {
            "user": {
                "profile_image_url": shapes.picture(me),
                "id": me.id,
                "name": me.name,
                "email": me.email,
                "groups": list(me.groups),
                "permissions": call.rights,
            },
            "messages": [],
            "org_slug": "default",
            "client_config": about | client_config(call),
        }
    )


# -- users -----------------------------------------------------------------------------------------


def users(call: Call) -> Answer:
    """GET /api/users: those not disabled, newest first, groups with their names."""
    call.allow("list_users")
    found = call.state.users.where(lambda one: one.disabled_at is None)

    def line(one: User) -> dict[str, Any]:
        groups = [call.state.groups.get(group) for group in one.groups]
        named = [{"id": group.id, "name": group.name} for group in groups if group]
        return (shapes.user(one) or {}) | {"groups": named}

    return paged(call, found[::-1], line)


def create_user(call: Call) -> Answer:
    """POST /api/users: invited into the default group; 50 an hour, refused ones count too."""
    call.state.users_asked_for += 1
    if call.state.users_asked_for > _USERS_AN_HOUR:
        raise refused(429, "50 per 1 hour")
    call.admin_only()
    call.required("name", "email")
    email = str(call.body["email"]).lower()
    if call.state.users.where(lambda one: one.email == email):
        raise refused(400, "Email already taken.")
    user = call.state.users.add(User(name=call.body["name"], email=email, groups=[DEFAULT_GROUP]))
    call.state.remember(user.api_key)
    link = {"invite_link": f"{call.base}/invite/{user.invitation}"}
    return shown((shapes.user(user) or {}) | link)


def _mine_or_admin(call: Call) -> User:
    user = call.find(call.state.users)
    if user.id != call.me.id:
        call.admin_only()
    return user


def user_of(call: Call) -> Answer:
    """GET /api/users/<id>: the key only to oneself and to an admin."""
    call.allow("list_users")
    user = call.find(call.state.users)
    return shown(shapes.user(user, with_key=call.is_admin or user.id == call.me.id))


def update_user(call: Call) -> Answer:
    """POST /api/users/<id>: `group_ids` replaces the groups, for admins only."""
    user = _mine_or_admin(call)
    if "group_ids" in call.body:
        call.admin_only()
        user.groups = list(call.body["group_ids"])
    user.name = call.body.get("name", user.name)
    user.email = call.body.get("email", user.email)
    user.touch()
    return shown(shapes.user(user, with_key=True))


def new_key(call: Call) -> Answer:
    """POST /api/users/<id>/regenerate_api_key: the old key is dead at once."""
    user = _mine_or_admin(call)
    user.api_key = User().api_key
    user.touch()
    call.state.remember(user.api_key)
    return shown(shapes.user(user, with_key=True))


def disable_user(call: Call) -> Answer:
    """POST /api/users/<id>/disable; oneself: 403."""
    call.admin_only()
    user = call.find(call.state.users)
    if user.id == call.me.id:
        raise refused(403, "You cannot disable your own account. Please ask another admin.")
    user.touch()
    user.disabled_at = user.updated_at
    return shown(shapes.user(user, with_key=True))


def enable_user(call: Call) -> Answer:
    """DELETE /api/users/<id>/disable."""
    call.admin_only()
    user = call.find(call.state.users)
    user.touch()
    user.disabled_at = None
    return shown(shapes.user(user, with_key=True))


# -- groups ----------------------------------------------------------------------------------------


def groups(call: Call) -> Answer:
    """GET /api/groups: all to an admin, else one's own."""
    mine = call.me.groups
    return shown(
        [shapes.group(one) for one in call.state.groups if call.is_admin or one.id in mine]
    )


def create_group(call: Call) -> Answer:
    """POST /api/groups: a name may be there already; it is born with all usual rights."""
    call.admin_only()
    call.need("name")
    return shown(shapes.group(call.state.groups.add(Group(name=call.body["name"]))))


def group_of(call: Call) -> Answer:
    """GET /api/groups/<id>."""
    return shown(shapes.group(call.find(call.state.groups)))


def update_group(call: Call) -> Answer:
    """POST /api/groups/<id>: a new name, but not for the built-in ones."""
    call.admin_only()
    group = call.find(call.state.groups)
    if group.builtin:
        raise refused(400, "Can't modify built-in groups.")
    call.need("name")
    group.name = call.body["name"]
    return shown(shapes.group(group))


def delete_group(call: Call) -> Answer:
    """DELETE /api/groups/<id>: members and grants go with it."""
    call.admin_only()
    group = call.find(call.state.groups, otherwise=broken)
    if group.builtin:
        raise refused(400, "Can't delete built-in groups.")
    for user in call.state.users:
        user.groups = [one for one in user.groups if one != group.id]
    call.state.grants = [one for one in call.state.grants if one.group != group.id]
    call.state.groups.drop(group)
    return shown(None)


def members(call: Call) -> Answer:
    """GET /api/groups/<id>/members."""
    group = call.find(call.state.groups)
    if not (call.is_admin or group.id in call.me.groups):
        raise refused(403, FORBIDDEN)
    found = call.state.users.where(lambda one: group.id in one.groups)
    return shown([shapes.user(one) for one in found])


def add_member(call: Call) -> Answer:
    """POST /api/groups/<id>/members: twice is twice in the user's list."""
    call.admin_only()
    group = call.find(call.state.groups)
    call.need("user_id")
    user = call.state.users.get(call.body["user_id"])
    if user is None:
        raise broken()
    user.groups.append(group.id)
    return shown(shapes.user(user))


def remove_member(call: Call) -> Answer:
    """DELETE /api/groups/<id>/members/<user>: once; 500 where the user is none of it."""
    call.admin_only()
    user = call.find(call.state.users, "member", broken)
    if call.number() not in user.groups:
        raise broken()
    user.groups.remove(call.number())
    return shown(None)


def _granted(view_only: bool, source: Source) -> Answer:
    return shown(shapes.source_line(source) | {"view_only": view_only})


def _grants(call: Call, source: int | None = None) -> list[Grant]:
    group = call.number()
    return [one for one in call.state.grants if one.group == group and source in (None, one.source)]


def group_sources(call: Call) -> Answer:
    """GET /api/groups/<id>/data_sources: 500 once one was attached twice."""
    call.find(call.state.groups)
    call.admin_only()
    found = _grants(call)
    if len({one.source for one in found}) < len(found):
        raise broken()
    sources = [(one, call.state.sources.get(one.source)) for one in found]
    return shown(
        [
            shapes.source_line(source) | {"view_only": one.view_only}
            for one, source in sources
            if source
        ]
    )


def attach_source(call: Call) -> Answer:
    """POST /api/groups/<id>/data_sources: full access. A second time is 200 and breaks the list."""
    call.admin_only()
    group = call.find(call.state.groups)
    call.need("data_source_id")
    source = call.state.sources.get(call.body["data_source_id"])
    if source is None:
        raise broken()
    call.state.grants.append(Grant(group.id, source.id))
    return _granted(False, source)


def change_grant(call: Call) -> Answer:
    """POST /api/groups/<id>/data_sources/<source> `view_only`: 500 where there is not exactly one grant."""
    call.admin_only()
    source = call.state.sources.get(call.number("source"))
    found = _grants(call, call.number("source"))
    if source is None or len(found) != 1:
        raise broken()
    call.need("view_only")
    found[0].view_only = call.body["view_only"]
    return _granted(found[0].view_only, source)


def detach_source(call: Call) -> Answer:
    """DELETE /api/groups/<id>/data_sources/<source>: all its grants, so it also mends what is broken."""
    call.admin_only()
    gone = _grants(call, call.find(call.state.sources, "source").id)
    call.state.grants = [one for one in call.state.grants if one not in gone]
    return shown(None)


# -- settings --------------------------------------------------------------------------------------


def _settings(call: Call) -> Answer:
    consent = {
        name: value for name, value in call.state.settings.items() if name == "beacon_consent"
    }
    return shown({"settings": consent | call.state.settings})


def settings(call: Call) -> Answer:
    """GET /api/settings/organization."""
    call.admin_only()
    return _settings(call)


def update_settings(call: Call) -> Answer:
    """POST /api/settings/organization: any of the known keys; another is 500."""
    call.admin_only()
    call.only("beacon_consent", *call.state.settings)
    call.state.settings.update(call.body)
    return _settings(call)


def status(call: Call) -> Answer:
    """GET /api/organization/status: how many of everything."""
    call.admin_only()
    state = call.state
    counted = {
        "users": len(state.users),
        "alerts": len(state.alerts),
        "data_sources": len(state.sources),
        "queries": len(state.queries.where(lambda one: not one.is_archived)),
        "dashboards": len(state.dashboards.where(lambda one: not one.is_archived)),
    }
    return shown({"object_counters": counted})


# -- who may change what is another's --------------------------------------------------------------


def _owned(call: Call) -> tuple[str, int]:
    kind = call.path.split("/")[2]
    table = call.state.queries if kind == "queries" else call.state.dashboards
    record = table.get(call.number())
    if record is None:
        raise not_found()
    call.change(kind, record)
    return kind, record.id


def permits(call: Call) -> Answer:
    """GET /api/<kind>/<id>/acl: users by what they may."""
    kind, record = _owned(call)
    found: dict[str, list[Any]] = {}
    for one in call.state.permits.where(lambda each: (each.kind, each.of) == (kind, record)):
        found.setdefault(one.access, []).append(shapes.user(call.state.users.get(one.user)))
    return shown(found)


def permit(call: Call) -> Answer:
    """POST /api/<kind>/<id>/acl."""
    kind, record = _owned(call)
    call.need("access_type", "user_id")
    one = call.state.permits.add(
        Permit(
            kind=kind,
            of=record,
            access=call.body["access_type"],
            user=call.body["user_id"],
            given_by=call.me.id,
        )
    )
    return shown(
        {
            "id": one.id,
            "object_id": record,
            "object_type": kind,
            "access_type": one.access,
            "grantor": one.given_by,
            "grantee": one.user,
        }
    )


def forbid(call: Call) -> Answer:
    """DELETE /api/<kind>/<id>/acl, with a body."""
    kind, record = _owned(call)
    call.need("access_type", "user_id")
    wanted = (kind, record, call.body["access_type"], call.body["user_id"])
    for one in call.state.permits:
        if (one.kind, one.of, one.access, one.user) == wanted:
            call.state.permits.drop(one)
    return shown(None)


def invited(call: Call, user: User) -> None:
    """Somebody took an invitation up: from now on there is a password."""
    user.password = call.form.get("password", "")
    user.updated_at = now()
    call.state.remember(user.password)
