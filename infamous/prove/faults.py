"""The plan of faults: a seed and a length flow in, what goes wrong and when flows out. Pure.

Faults of one lane come one after the other: two outages of the same server would hide each other. Faults
of different lanes overlap as they like, which is the point of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final


class Lane(StrEnum):
    """What a fault falls on."""

    REDIS = "redis"
    POSTGRES = "postgres"
    WORKERS = "workers"
    PRODUCERS = "producers"
    JOBS = "jobs"
    CLUSTER = "cluster"


class Kind(StrEnum):
    """A class of fault. Each is named as ``--faults`` names it."""

    WORKER_KILLED = "worker_killed"
    WORKER_STOPPED = "worker_stopped"
    WORKER_PAUSED = "worker_paused"
    WORKERS_SCALED = "workers_scaled"
    PRODUCER_KILLED = "producer_killed"
    PRODUCER_STOPPED = "producer_stopped"
    PRODUCER_PAUSED = "producer_paused"
    POSTGRES_RESTARTED = "postgres_restarted"
    POSTGRES_AWAY = "postgres_away"
    BACKENDS_TERMINATED = "backends_terminated"
    TABLE_LOCKED = "table_locked"
    MIGRATION = "migration"
    PARTITION_CHANGED = "partition_changed"
    POSTGRES_REQUESTS_DROPPED = "postgres_requests_dropped"
    POSTGRES_REPLIES_DROPPED = "postgres_replies_dropped"
    POSTGRES_DELAYED = "postgres_delayed"
    POSTGRES_BLACK_HOLED = "postgres_black_holed"
    POSTGRES_RESET = "postgres_reset"
    REDIS_KILLED = "redis_killed"
    REDIS_FULL = "redis_full"
    REDIS_REQUESTS_DROPPED = "redis_requests_dropped"
    REDIS_REPLIES_DROPPED = "redis_replies_dropped"
    REDIS_DELAYED = "redis_delayed"
    REDIS_BLACK_HOLED = "redis_black_holed"
    REDIS_RESET = "redis_reset"
    TRIMMED = "trimmed"
    REPLAYED = "replayed"
    ROLLED_UP = "rolled_up"
    MASTER_KILLED = "master_killed"
    FAILED_OVER = "failed_over"
    SLOT_MOVED = "slot_moved"
    # Two at once: a replica that gets nothing, and then its master is killed. Only when it is named.
    REPLICA_CUT_OFF = "replica_cut_off"
    # No moment of its own: the stranger sends bad entries for the whole of a run.
    POISON = "poison"


@dataclass(frozen=True)
class Shape:
    """What all faults of a class have in common."""

    lane: Lane
    # How long it lasts, at least and at most.
    least_s: float
    most_s: float
    # How long the lane is left alone afterwards.
    settles_s: float
    # It comes so often at most.
    times: int


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    # Seconds after the beginning of the run.
    at_s: float
    kind: Kind
    lasts_s: float
    # Any number: picks whom it hits among those who are there.
    choice: int

    @property
    def ends_s(self) -> float:
        """When it is to be over."""
        return self.at_s + self.lasts_s


# Outages come once: the run has to get something done as well. What costs little comes again.
SHAPES: Final[Mapping[Kind, Shape]] = {
    Kind.WORKER_KILLED: Shape(Lane.WORKERS, 0.3, 0.8, 0.5, 6),
    Kind.WORKER_STOPPED: Shape(Lane.WORKERS, 0.5, 1.0, 0.5, 3),
    # Longer than CLAIM_AFTER_S of the run: another takes over what it has in hand.
    Kind.WORKER_PAUSED: Shape(Lane.WORKERS, 3.0, 4.0, 0.5, 2),
    Kind.WORKERS_SCALED: Shape(Lane.WORKERS, 4.0, 5.0, 0.5, 1),
    Kind.PRODUCER_KILLED: Shape(Lane.PRODUCERS, 0.3, 0.8, 2.0, 4),
    Kind.PRODUCER_STOPPED: Shape(Lane.PRODUCERS, 0.3, 0.8, 2.0, 2),
    Kind.PRODUCER_PAUSED: Shape(Lane.PRODUCERS, 1.0, 3.0, 1.0, 2),
    Kind.POSTGRES_RESTARTED: Shape(Lane.POSTGRES, 0.5, 0.5, 1.5, 2),
    Kind.POSTGRES_AWAY: Shape(Lane.POSTGRES, 4.0, 4.0, 1.5, 1),
    Kind.BACKENDS_TERMINATED: Shape(Lane.POSTGRES, 0.1, 0.1, 1.0, 3),
    Kind.TABLE_LOCKED: Shape(Lane.POSTGRES, 2.0, 3.0, 1.0, 2),
    Kind.MIGRATION: Shape(Lane.POSTGRES, 2.0, 2.0, 1.0, 1),
    Kind.PARTITION_CHANGED: Shape(Lane.POSTGRES, 1.0, 1.5, 1.0, 1),
    Kind.POSTGRES_REQUESTS_DROPPED: Shape(Lane.POSTGRES, 0.5, 1.0, 1.0, 1),
    Kind.POSTGRES_REPLIES_DROPPED: Shape(Lane.POSTGRES, 0.5, 1.0, 1.0, 2),
    Kind.POSTGRES_DELAYED: Shape(Lane.POSTGRES, 1.0, 2.0, 0.5, 1),
    Kind.POSTGRES_BLACK_HOLED: Shape(Lane.POSTGRES, 1.0, 2.0, 1.0, 1),
    Kind.POSTGRES_RESET: Shape(Lane.POSTGRES, 0.2, 0.2, 1.0, 2),
    Kind.REDIS_KILLED: Shape(Lane.REDIS, 0.3, 0.3, 2.0, 2),
    Kind.REDIS_FULL: Shape(Lane.REDIS, 2.0, 2.0, 1.0, 1),
    Kind.REDIS_REQUESTS_DROPPED: Shape(Lane.REDIS, 0.5, 1.0, 1.0, 1),
    Kind.REDIS_REPLIES_DROPPED: Shape(Lane.REDIS, 0.5, 1.0, 1.0, 2),
    Kind.REDIS_DELAYED: Shape(Lane.REDIS, 1.0, 2.0, 0.5, 1),
    Kind.REDIS_BLACK_HOLED: Shape(Lane.REDIS, 1.0, 2.0, 2.0, 1),
    Kind.REDIS_RESET: Shape(Lane.REDIS, 0.2, 0.2, 1.0, 2),
    Kind.TRIMMED: Shape(Lane.JOBS, 1.5, 1.5, 1.0, 2),
    Kind.REPLAYED: Shape(Lane.JOBS, 2.0, 2.0, 1.0, 2),
    Kind.ROLLED_UP: Shape(Lane.JOBS, 1.5, 1.5, 1.0, 3),
    # So long the shard has one node; that it takes over and comes back adds a few seconds.
    Kind.MASTER_KILLED: Shape(Lane.CLUSTER, 3.0, 4.0, 1.0, 5),
    Kind.FAILED_OVER: Shape(Lane.CLUSTER, 1.0, 1.0, 1.0, 2),
    Kind.SLOT_MOVED: Shape(Lane.CLUSTER, 1.0, 1.0, 1.0, 2),
    Kind.REPLICA_CUT_OFF: Shape(Lane.CLUSTER, 1.0, 2.0, 1.0, 1),
}
_CLUSTERS: Final = frozenset(kind for kind in SHAPES if SHAPES[kind].lane is Lane.CLUSTER)
# A cluster's nodes tell each other and every client where they are, so no proxy stands before them. Nothing
# is trimmed: what is on no stream at the end of the run must have been lost.
_NOT_CLUSTERS: Final = frozenset(
    kind for kind in SHAPES if SHAPES[kind].lane is Lane.REDIS or kind is Kind.TRIMMED
)
# What a run may have, with one Redis and with a cluster, and what it has where nothing is said.
ONE_REDIS: Final = tuple(kind for kind in Kind if kind not in _CLUSTERS)
CLUSTER: Final = tuple(kind for kind in Kind if kind not in _NOT_CLUSTERS)
SINGLE_FAILURES: Final = tuple(kind for kind in CLUSTER if kind is not Kind.REPLICA_CUT_OFF)
# From this length on a run has room for every class.
WHOLE_S: Final = 45.0
# Nothing goes wrong before everybody is at work, nor so shortly before the end.
FIRST_S: Final = 1.5
QUIET_S: Final = 2.0


def plan(seed: int, seconds: float, kinds: Collection[Kind] = tuple(Kind)) -> list[Fault]:
    """The faults of a run, in the order of their beginning; the same arguments give the same.

    From WHOLE_S on each class comes at least once; a shorter run has those for which there is room.
    """
    faults: list[Fault] = []
    for lane in Lane:
        mine = [kind for kind in SHAPES if kind in kinds and SHAPES[kind].lane is lane]
        # A generator for each lane: what is left out of one does not move the others.
        faults += _lane(Random(f"{seed} {lane}"), seconds, mine)  # noqa: S311  # nothing secret
    return sorted(faults, key=lambda fault: (fault.at_s, fault.kind))


def _lane(random: Random, seconds: float, kinds: list[Kind]) -> list[Fault]:
    """Draw what comes, then spread over it what time is left."""
    room_s = seconds - QUIET_S - FIRST_S
    again = [kind for kind in kinds for _ in range(SHAPES[kind].times - 1)]
    random.shuffle(kinds)
    random.shuffle(again)
    drawn: list[tuple[Kind, float]] = []
    needed_s = 0.0
    for kind in (*kinds, *again):
        shape = SHAPES[kind]
        lasts_s = random.uniform(shape.least_s, shape.most_s)
        if needed_s + lasts_s + shape.settles_s <= room_s:
            needed_s += lasts_s + shape.settles_s
            drawn.append((kind, lasts_s))
    random.shuffle(drawn)
    pauses_s = sorted(random.uniform(0, room_s - needed_s) for _ in drawn)
    faults = []
    spent_s = FIRST_S
    for (kind, lasts_s), pause_s in zip(drawn, pauses_s, strict=True):
        faults.append(Fault(spent_s + pause_s, kind, lasts_s, random.randrange(2**16)))
        spent_s += lasts_s + SHAPES[kind].settles_s
    return faults
