"""The quarantine: a choice flows in, the entries that it names flow out; what is in it, and what was done.

A key is the SHA-256 of an entry's bytes. What is in a row under its key never changes but for the marks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from jobs.verdict import parsed
from pipeline.entry import Form
from pipeline.event import Reason

# Few at once: each may hold a megabyte.
CHUNK: Final = 50
FEWEST_DIGITS: Final = 6
_DIGITS: Final = 64
_START_BYTES: Final = 160

_CHOSEN: Final = """
released_at is null
  and (cast(:reason as text) is null or reason = :reason)
  and (:has_no_keys or sha256 = any(cast(:keys as bytea[])))
  and (cast(:seen_from as timestamptz) is null or last_seen_at >= :seen_from)
  and (cast(:seen_to as timestamptz) is null or last_seen_at <= :seen_to)
"""
# Past the last key, so that what comes back at once is not taken again by the same run.
_PAGE: Final = f"""
select sha256, raw, reason from quarantined_events
where {_CHOSEN} and sha256 > :after and size_bytes = length(raw)
  and (:takes_foreign or reason <> 'not_an_event_entry')
order by sha256 limit :count
"""  # noqa: S608  # the names are ours
LOOK: Final = text(_PAGE)
# Skipped, not waited for: what is locked is in the hands of another, or of a consumer that brings it again.
TAKE: Final = text(f"{_PAGE} for update skip locked")
TAKE_AGAIN: Final = text("""
select sha256 from quarantined_events
where released_at is null and sha256 = any(:keys)
order by sha256 for update skip locked
""")
# Who is frozen with rows in its hands would keep consumers waiting that bring those bytes again: the
# server takes the rows away from it.
LIMIT_IDLE: Final = text("set local idle_in_transaction_session_timeout = '15s'")
MARK: Final = text("""
update quarantined_events set released_at = now(), attempts = attempts + 1
where sha256 = any(:keys)
""")
# What was made of these is other bytes: should they themselves come again, they wait no more.
MARK_FIXED: Final = text("""
update quarantined_events set released_at = now(), fixed_at = now(), attempts = attempts + 1
where sha256 = any(:keys)
""")
TRIED: Final = text("""
update quarantined_events set attempts = attempts + 1 where sha256 = any(:keys)
""")
COUNT: Final = text(f"""
select count(*) filter (where reason <> 'not_an_event_entry' and size_bytes = length(raw)),
       count(*) filter (where reason = 'not_an_event_entry' and size_bytes = length(raw)),
       count(*) filter (where size_bytes <> length(raw))
from quarantined_events where {_CHOSEN}
""")  # noqa: S608  # the names are ours
COUNT_BY_REASON: Final = text("""
select reason, count(*) filter (where released_at is null) as waiting,
       count(*) filter (where released_at is null and attempts > 0) as tried,
       count(*) filter (where released_at is not null) as released,
       count(*) filter (where fixed_at is not null) as fixed,
       max(attempts) as attempts, min(first_seen_at) as first_seen_at, max(last_seen_at) as last_seen_at
from quarantined_events where cast(:reason as text) is null or reason = :reason
group by reason order by 2 desc, reason
""")
# The bytes are fetched for those that are shown, not for all that are ranked.
SAMPLE: Final = text("""
select sha256, reason, detail, size_bytes, attempts, substring(raw for :start_bytes) as start
from (
    select sha256 as key,
           row_number() over (partition by reason order by last_seen_at desc, sha256) as place
    from quarantined_events
    where released_at is null and (cast(:reason as text) is null or reason = :reason)
) as ranked join quarantined_events on sha256 = key
where place <= :samples order by reason, place
""")
FIND: Final = text("""
select sha256 from quarantined_events where sha256 between :first and :last order by 1 limit 2
""")
GET: Final = text("select * from quarantined_events where sha256 = :key")


class NoSuchKey(Exception):
    """The digits name no entry of the quarantine, or more than one."""


class BadKey(Exception):
    """What was given is no key."""


@dataclass(frozen=True)
class Choice:
    """Which of the entries that were not released; with nothing said, all."""

    reason: Reason | None = None
    # Whole ones, as ``find`` gives them.
    keys: Sequence[bytes] = ()
    # When the bytes came last: aware times, both ends included.
    seen_from: datetime | None = None
    seen_to: datetime | None = None
    # What the bytes say, where they are a JSON object.
    player: str | None = None
    action: str | None = None

    @property
    def looks_inside(self) -> bool:
        """Whether the bytes have a say in it."""
        return self.player is not None or self.action is not None

    def has(self, raw: bytes) -> bool:
        """Whether bytes say what is asked for."""
        if not self.looks_inside:
            return True
        value = parsed(raw)
        return isinstance(value, dict) and all(
            wanted is None or value.get(key) == wanted
            for key, wanted in (("player", self.player), ("action", self.action))
        )

    def columns(self) -> dict[str, object]:
        """The same for the statements here; the bytes are for ``has``."""
        return {
            "reason": None if self.reason is None else self.reason.value,
            "has_no_keys": not self.keys,
            "keys": list(self.keys),
            "seen_from": self.seen_from,
            "seen_to": self.seen_to,
        }


@dataclass(frozen=True)
class Held:
    """An entry that is held, its bytes whole."""

    key: bytes
    raw: bytes
    reason: str

    @property
    def form(self) -> Form:
        """What the bytes were: an array that could not be taken apart was refused whole, for that reason."""
        if self.reason == Reason.NOT_AN_EVENT_ENTRY:
            return Form.FOREIGN
        return Form.EVENTS if self.reason == Reason.BAD_ARRAY else Form.EVENT


@dataclass(frozen=True)
class Count:
    """How many a choice names, whatever its bytes say."""

    # Those that can be sent again.
    whole: int
    # Foreign entries: their raw is all fields of an entry, not bytes that stood in one.
    foreign: int
    # Larger than what the quarantine keeps: the rest of the bytes is gone.
    cut: int


@dataclass(frozen=True)
class Page:
    """Some of a choice. ``last`` is where the next page begins; None at the end."""

    held: list[Held]
    looked_at: int
    last: bytes | None


def count(connection: Connection, choice: Choice) -> Count:
    """How many there are. Where the bytes have a say, foreign and cut ones are not asked for."""
    whole, foreign, cut = connection.execute(COUNT, choice.columns()).one()
    return Count(whole, 0, 0) if choice.looks_inside else Count(whole, foreign, cut)


def page(
    connection: Connection,
    choice: Choice,
    after: bytes = b"",
    most: int = CHUNK,
    *,
    is_taken: bool = False,
    takes_foreign: bool = False,
) -> Page:
    """The next of a choice in the order of their keys. ``is_taken``: they stay locked until the end of the
    transaction, and what another has locked is left out."""
    # Where the bytes have a say, few of many may be meant.
    asked = CHUNK if choice.looks_inside else most
    values = {"after": after, "count": asked, "takes_foreign": takes_foreign}
    found = connection.execute(TAKE if is_taken else LOOK, choice.columns() | values).all()
    held = [Held(bytes(key), bytes(raw), reason) for key, raw, reason in found]
    last = held[-1].key if held else None
    return Page([one for one in held if choice.has(one.raw)][:most], len(held), last)


def find(connection: Connection, digits: str) -> bytes:
    """The one key that begins with these hex digits. Raises BadKey, NoSuchKey."""
    if not FEWEST_DIGITS <= len(digits) <= _DIGITS or set(digits) - set("0123456789abcdefABCDEF"):
        raise BadKey(
            f"{digits!r:.80} is no key: give {FEWEST_DIGITS} to {_DIGITS} digits of one, as"
            " `infamous quarantine list` shows them."
        )
    ends = [bytes.fromhex(digits.ljust(_DIGITS, digit)) for digit in "0f"]
    keys = connection.execute(FIND, {"first": ends[0], "last": ends[1]}).scalars().all()
    if not keys:
        raise NoSuchKey(
            f"Nothing in the quarantine has a key that begins with {digits}: `infamous quarantine list`"
            " shows what is there."
        )
    if len(keys) > 1:
        raise NoSuchKey(f"More than one key begins with {digits}: give more of its digits.")
    return bytes(keys[0])


def by_reason(connection: Connection, reason: Reason | None = None) -> list[dict[str, Any]]:
    """How many wait, were tried and still wait, and were released; most often tried; since when."""
    values = {"reason": None if reason is None else reason.value}
    return [dict(row) for row in connection.execute(COUNT_BY_REASON, values).mappings()]


def samples(
    connection: Connection, each: int, reason: Reason | None = None
) -> list[dict[str, Any]]:
    """Of each reason those of which the bytes came last, with the start of the bytes."""
    values = {
        "reason": None if reason is None else reason.value,
        "samples": each,
        "start_bytes": _START_BYTES,
    }
    found = connection.execute(SAMPLE, values).mappings()
    return [{**row, "sha256": bytes(row["sha256"]), "start": bytes(row["start"])} for row in found]


def get(connection: Connection, key: bytes) -> dict[str, Any]:
    """All columns of an entry."""
    row = connection.execute(GET, {"key": key}).mappings().one()
    return {**row, "sha256": bytes(row["sha256"]), "raw": bytes(row["raw"])}
