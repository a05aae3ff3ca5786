"""The crash matrix: a process killed at every named point of the code, and started again.

One row a failpoint, one column for a lone process and one for a process beside which others go on. The
victim must die where it was told to; afterwards a plain start brings everything home.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import pytest
from sqlalchemy import text

from infamous.prove.poison import REFUSED_BY_DATABASE, Poison, poison
from pipeline.entry import Form
from pipeline.event import Reason, encode
from pipeline.failpoint import POINTS, VARIABLE, Point
from tests.acceptance.processes import Launcher, Process, Result, facts_of, wait_until
from tests.conftest import World
from tests.integration.consuming import now_ms
from tests.unit.samples import chains

# What a job is called that passes the point; every other point is the consumer's.
JOBS: Final[dict[Point, tuple[str, ...]]] = {
    "in_trim": ("trim", "--keep", "0"),
    "in_replay": ("replay", "--since", "3600"),
    "in_release": ("release",),
    "in_rollup": ("rollup", "--hours", "2"),
}
# Those are passed by what has a test of its own, beside what else it does.
ELSEWHERE: Final[frozenset[Point]] = frozenset(
    {
        *("in_archive", "in_fix", "in_forget", "in_import"),
        *("in_retention", "in_rewrite", "in_shadow", "in_swap"),
    }
)
CONSUMER_POINTS: Final = tuple(point for point in POINTS if point not in JOBS.keys() | ELSEWHERE)
# Points behind the first COMMIT; whoever dies before it leaves nothing in any table.
COMMITTED: Final = frozenset({"after_commit", "after_ack"})

ENVIRONMENT: Final = {
    "CLAIM_AFTER_S": "0.5",
    # Two hundred events are more than the 8 KiB that go at once in a COPY, and soon read.
    "BATCH_ROWS": "200",
}
HELD_BY_THE_DEAD: Final = 250

REFUSE_BY_DATABASE: Final = f"""
alter table game_events add constraint mistake check (player not like '{REFUSED_BY_DATABASE}%')
"""
BOOKS: Final = """
select (select sum(stored) from pipeline_health) as stored,
       (select count(*) from game_events) as rows,
       (select sum(quarantined) from pipeline_health) as quarantined,
       (select sum(times_seen) from quarantined_events) as times_seen
"""
ROLLUPS: Final = "select * from hourly_rollups order by hour, player, action"
SUMS: Final = """
select date_trunc('hour', ts) as hour, player, action, count(*) as events,
       sum(xp_delta) as xp_delta, sum(karma_delta) as karma_delta
from game_events group by 1, 2, 3 order by 1, 2, 3
"""


@dataclass(frozen=True)
class Sent:
    """What is put onto the stream: each entry's fields, and what must become of it."""

    # Before the victim starts, and when it is dead.
    early: list[tuple[bytes, ...]]
    late: list[tuple[bytes, ...]]
    ids: frozenset[str]
    reasons: dict[bytes, str]


def made_up(seed: int) -> Sent:
    """Good events, every kind of refusal, and both of them again."""
    rng, now = random.Random(seed), now_ms()
    events = chains(800, players=5, seed=seed, start_ms=now - 60_000)
    good: list[tuple[bytes, ...]] = [(Form.EVENT.value, encode(event)) for event in events]
    poisons: list[Poison] = [poison(number, rng, now) for number in range(2 * len(Reason))]
    bad = [one.fields for one in poisons]
    half = len(Reason)
    early = good[:600] + bad[:half] + rng.choices(good[:600], k=60) + rng.choices(bad[:half], k=10)
    late = good[600:] + bad[half:] + rng.choices(good, k=60) + rng.choices(bad, k=10)
    for part in (early, late):
        rng.shuffle(part)
    return Sent(
        early,
        late,
        frozenset(str(event.id) for event in events),
        {one.payload: one.reason.value for one in poisons},
    )


def add(world: World, entries: list[tuple[bytes, ...]]) -> None:
    """Put them onto the stream, all at once."""
    with world.client.pipeline(transaction=True) as pipe:
        for fields in entries:
            pipe.execute_command("XADD", world.source.key, "*", *fields)  # type: ignore[no-untyped-call]
        pipe.execute()


def leave_pending(world: World) -> None:
    """A consumer has read some of it long ago, and died."""
    source = world.source
    ids: list[Any] = [one.id for one in source.read("dead", HELD_BY_THE_DEAD).entries]
    world.client.xclaim(source.key, source.group, "dead", 0, ids, idle=60_000, justid=True)


@contextmanager
def table_locked(world: World) -> Iterator[None]:
    """Nobody can store rows for as long as the block lasts; whoever tries waits in the middle of it."""
    with world.engine.connect() as connection:
        connection.execute(text("lock table game_events in share row exclusive mode"))
        yield
        connection.rollback()


def start_consumer(world: World, launch: Launcher, **variables: str) -> Process:
    """A consumer that is quick to take over."""
    return launch.fork("consumer", environment=world.environment | ENVIRONMENT | variables)


def wait_until_drained(world: World) -> None:
    """Wait until all that is on the stream is acknowledged."""

    def is_drained() -> bool:
        state = world.source.state()
        return state.undelivered == 0 and state.pending == 0

    wait_until(is_drained, "the stream is drained", 25)


def assert_kept(world: World, sent: Sent, consumers: list[Process]) -> None:
    """Each good event is one row, each bad entry one row of the quarantine, and the books are right."""
    with world.engine.connect() as connection:
        ids = connection.execute(text("select id::text from game_events")).scalars().all()
        kept = connection.execute(text("select raw, reason from quarantined_events")).all()
        books = connection.execute(text(BOOKS)).one()
    assert len(ids) == len(set(ids))
    assert set(ids) == sent.ids
    assert {bytes(one.raw): one.reason for one in kept} == sent.reasons
    assert books.stored == books.rows
    assert books.quarantined == books.times_seen
    facts = facts_of(world.streams, world.engine)
    assert facts.broken == ()
    assert facts.is_drained, facts
    for consumer in consumers:
        assert consumer.lives, consumer.shown()
        assert "Traceback" not in consumer.err()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("point", CONSUMER_POINTS)
def test_a_consumer_killed_anywhere(
    world: World, launch: Launcher, point: Point, workers: int
) -> None:
    """A consumer that dies at a named point, alone or beside another, costs no event and repeats none."""
    with world.engine.begin() as connection:
        connection.execute(text(REFUSE_BY_DATABASE))
    sent = made_up(seed=workers)
    world.source.ensure_group()
    others = [start_consumer(world, launch) for _ in range(workers - 1)]
    for other in others:
        wait_until(lambda other=other: "Consuming" in other.err(), "it consumes")  # type: ignore[misc]
    # Locked, so that the other has its hands full when the victim comes, and leaves it enough.
    with table_locked(world):
        add(world, sent.early)
        leave_pending(world)
        victim = start_consumer(world, launch, **{VARIABLE: point})
        wait_until(lambda: not victim.lives or "Consuming" in victim.err(), "the victim consumes")
        wait_until(lambda: not victim.lives or _holds(world, victim), "it holds entries")
    died = victim.wait(20)
    assert died.code == -signal.SIGKILL, died.text
    if not others:
        left = (world.count("game_events") > 0, world.count("quarantined_events") > 0)
        assert left == (point in COMMITTED, point in COMMITTED)
        assert world.source.state().pending > 0
    add(world, sent.late)
    heir = start_consumer(world, launch)
    wait_until_drained(world)
    assert_kept(world, sent, [*others, heir])


def _holds(world: World, consumer: Process) -> bool:
    name = consumer.err().split("consumer=", 1)[1].split()[0]
    pending = world.source.state().consumers.get(name)
    return pending is not None and pending.entries > 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("point", JOBS)
def test_a_job_killed_in_the_middle(
    world: World, launch: Launcher, point: Point, workers: int
) -> None:
    """A job that dies halfway, beside consumers at work, is run again and nothing else is to be done."""
    with world.engine.begin() as connection:
        connection.execute(text(REFUSE_BY_DATABASE))
    sent = made_up(seed=workers)
    world.source.ensure_group()
    # They live, so nobody takes over from them; and they may be held up for longer than the others.
    consumers = [start_consumer(world, launch, CLAIM_AFTER_S="5") for _ in range(workers)]
    add(world, sent.early)
    wait_until_drained(world)
    command = ("jobs", *JOBS[point])
    environment = world.environment | ENVIRONMENT
    # Locked, so that the consumers have their hands full while the job does its work.
    with table_locked(world):
        add(world, sent.late)
        wait_until(lambda: world.source.state().pending > 0, "the consumers hold entries")
        died = launch.run(*command, environment=environment | {VARIABLE: point})
        assert died.code == -signal.SIGKILL, died.text
        assert_half_done(world, sent, point)
    wait_until_drained(world)
    done = launch.run(*command, environment=environment)
    assert done.code == 0, done.text
    assert_done(world, sent, point, done)
    wait_until_drained(world)
    assert_kept(world, sent, consumers)


def assert_half_done(world: World, sent: Sent, point: Point) -> None:
    """The job had begun its work and not finished it."""
    state, added = world.source.state(), len(sent.early) + len(sent.late)
    if point == "in_trim":
        assert len(sent.late) <= state.entries < added
    elif point == "in_rollup":
        assert rows(world, ROLLUPS) == []
    else:
        assert state.added is not None
        assert state.added > added
    if point == "in_release":
        assert rows(world, "select from quarantined_events where released_at is not null") == []


def assert_done(world: World, sent: Sent, point: Point, done: Result) -> None:
    """What the job is for is done."""
    state = world.source.state()
    if point == "in_trim":
        assert state.entries <= 100  # a node of the stream may stay
    elif point == "in_rollup":
        assert rows(world, ROLLUPS) == rows(world, SUMS)
    elif point == "in_release":
        whole = [reason for reason in sent.reasons.values() if reason != Reason.NOT_AN_EVENT_ENTRY]
        assert done.out.startswith(f"Released {len(whole)} entries")
    else:
        assert state.added is not None
        # What came more than once is sent again once.
        entries = [*sent.early, *sent.late]
        assert state.added >= len(entries) + len(set(entries))


def rows(world: World, query: str) -> list[dict[str, Any]]:
    """What a query answers."""
    with world.engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(query)).mappings()]
