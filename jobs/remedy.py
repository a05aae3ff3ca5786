"""The remedy: refused bytes flow into a person's expression, the bytes it makes of them flow out.

The expression is code. It runs with all that the person who wrote it may do, and nobody else can send one:
no task of the queue's leads here, which import-linter checks.
"""

from __future__ import annotations

import builtins
import json
import re
import symtable
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from jobs.ids import seeded_id
from jobs.verdict import parsed
from pipeline.entry import Form
from pipeline.patience import first_line

# New bytes for old. Raises Threw.
Remedy = Callable[[bytes], bytes]

STATEMENT_TIMEOUT_S: Final = 5
_FILE: Final = "<expression>"
_LONGEST: Final = 300
LIMIT: Final = text(f"set local statement_timeout = '{STATEMENT_TIMEOUT_S}s'")
# SQLSTATE classes that are the server's own trouble; all others are the expression's.
_SERVERS: Final = frozenset({"08", "40", "53", "57", "58", "XX"})
_CANCELED: Final = "57014"
_READ_ONLY: Final = "25006"


class BadExpression(Exception):
    """The expression can never work, whatever the bytes are."""


class Threw(Exception):
    """The expression failed on these bytes."""

    def __init__(self, error: BaseException | str) -> None:
        said = error if isinstance(error, str) else f"{type(error).__name__}: {first_line(error)}"
        # It may quote the bytes, and is shown on terminals.
        safe = (
            char if char.isprintable() else char.encode("unicode_escape").decode() for char in said
        )
        super().__init__("".join(safe)[:_LONGEST])


def form_of(made: bytes) -> Form:
    """What made bytes are: an array of events, or one event."""
    return Form.EVENTS if made.lstrip(b" \t\n\r").startswith(b"[") else Form.EVENT


def to_bytes(value: object) -> bytes:
    """What an expression gave, as bytes: those themselves, text, or a dict or a list as JSON."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if not isinstance(value, dict | list):
        raise Threw(f"it gave {type(value).__name__}; a dict, a list, bytes or a str is expected")
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except (
        UnicodeEncodeError
    ):  # half of a pair of surrogates: written out, the rules have a word for it
        return json.dumps(value, separators=(",", ":")).encode()


def python(expression: str) -> Remedy:
    """A remedy in Python, over ``event``, what the bytes say as JSON, and ``raw``, the bytes.

    ``event`` is None where they are no JSON. ``json``, ``re`` and ``uuid7(ms, seed)`` are there as well.
    Raises BadExpression.
    """
    names = {"json": json, "re": re, "uuid7": _uuid7}
    try:
        code = compile(expression.strip(), _FILE, "eval")
        unknown = _free_names(expression.strip()) - {"event", "raw", *names, *dir(builtins)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        said = error.msg if isinstance(error, SyntaxError) else first_line(error)
        raise BadExpression(f"The Python expression cannot be used: {said}.") from None
    if unknown:
        raise BadExpression(
            f"The Python expression cannot be used: there is no {', '.join(sorted(unknown))};"
            f" it may use event, raw, {', '.join(names)} and Python's own functions."
        )

    def remedy(raw: bytes) -> bytes:
        try:
            given = {"event": parsed(raw), "raw": raw, **names}
            return to_bytes(eval(code, given))  # noqa: S307  # the person's own code, on purpose
        except Threw:
            raise
        except (Exception, SystemExit) as error:
            raise Threw(error) from None

    return remedy


def _uuid7(ms: int, seed: object) -> str:
    """An id for an event that has none: the same time and seed give the same id."""
    return str(seeded_id(int(ms), seed if isinstance(seed, bytes) else str(seed).encode()))


def _free_names(expression: str) -> set[str]:
    """The names that an expression takes from around it."""
    found: set[str] = set()
    tables = [symtable.symtable(expression, _FILE, "eval")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        found |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and symbol.is_global() and not symbol.is_assigned()
        }
    return found


def sql(connection: Connection, expression: str) -> Remedy:
    """A remedy in SQL, over ``event`` as jsonb, null where the bytes are none, and ``raw`` as bytea.

    The connection must be read-only and is the remedy's alone. Raises BadExpression.
    """
    # What psycopg2 takes for the place of a value; the line ends a comment.
    plain = expression.replace("%", "%%")
    statement = f"""
    select pg_typeof(fixed)::text, fixed::text
    from (
        select ({plain}
        ) as fixed
        from (select cast(%(event)s as jsonb) as event, cast(%(raw)s as bytea) as raw) as entry
    ) as result
    """  # noqa: S608  # the person's own code, on purpose

    def answer(query: str, values: dict[str, Any]) -> tuple[Any, ...]:
        with connection.begin():
            connection.execute(LIMIT)
            return tuple(connection.exec_driver_sql(query, values).one())

    def remedy(raw: bytes) -> bytes:
        event = None if parsed(raw) is None else raw.decode()
        try:
            try:
                return _sql_bytes(*answer(statement, {"event": event, "raw": raw}))
            except DBAPIError as error:
                if _is_servers(error) or _is_jsonb(event):
                    raise
            return _sql_bytes(*answer(statement, {"event": None, "raw": raw}))
        except DBAPIError as error:
            if _is_servers(error):
                raise
            raise Threw(first_line(error.orig)) from None

    def _is_jsonb(event: str | None) -> bool:
        """Whether Postgres takes it, too: Python's JSON has NaN and NUL."""
        try:
            answer("select cast(%(event)s as jsonb) is null", {"event": event})
        except DBAPIError as error:
            if _is_servers(error):
                raise
            return False
        return True

    try:
        answer(statement, {"event": "{}", "raw": b""})
    except DBAPIError as error:
        code = _code(error)
        if code == _READ_ONLY or code[:2] == "42":
            said = first_line(error.orig)
            raise BadExpression(f"The SQL expression cannot be used: {said}.") from None
        if _is_servers(error):
            raise
    return remedy


def _sql_bytes(kind: str, value: str | None) -> bytes:
    if value is not None and kind in {"jsonb", "json"}:
        # Spaces count: details have a longest length.
        return msgspec.json.format(value.encode(), indent=-1)
    if value is not None and kind == "bytea":
        return bytes.fromhex(value.removeprefix("\\x"))
    if value is not None and kind == "text":
        return value.encode()
    raise Threw(f"it gave {'null' if value is None else kind}; jsonb, text or bytea is expected")


def _code(error: DBAPIError) -> str:
    """The SQLSTATE; nothing where the server did not say it."""
    return getattr(error.orig, "pgcode", None) or ""


def _is_servers(error: DBAPIError) -> bool:
    code = _code(error)
    return code != _CANCELED and (not code or code[:2] in _SERVERS)
