"""The stage: acts come when they are due, one at a time in a lane, and whatever becomes of them is noted."""

from __future__ import annotations

from infamous.prove.actors import Act, GaveUp
from infamous.prove.faults import Fault, Kind
from infamous.prove.stage import Done, Stage


def fault(at_s: float, kind: Kind) -> Fault:
    """A fault whose length does not matter here."""
    return Fault(at_s, kind, 1.0, 0)


def test_a_lane_waits_for_the_act_that_takes_longer() -> None:
    """A server that comes back late is not hit again before it is back; other lanes do not wait."""

    def act(_: Fault) -> Act[str | None]:
        yield 5.0
        return "done"

    late, other = fault(2, Kind.POSTGRES_RESET), fault(2, Kind.REDIS_RESET)
    stage = Stage([fault(1, Kind.POSTGRES_AWAY), late, other], act)
    stage.turn(0.9)
    assert stage.acting == []
    stage.turn(1.0)
    stage.turn(2.0)
    assert stage.acting == [Kind.POSTGRES_AWAY, Kind.REDIS_RESET]
    stage.turn(6.0)
    assert stage.log == [Done(1.0, Kind.POSTGRES_AWAY, "done")]
    stage.turn(6.1)
    assert stage.acting == [Kind.REDIS_RESET, Kind.POSTGRES_RESET]
    stage.turn(11.2)
    assert stage.is_empty


def test_an_act_that_gives_up_is_a_problem() -> None:
    """A server that does not come back ends the act, not the run, and is never taken for an effect."""

    def act(_: Fault) -> Act[str | None]:
        yield 0.0
        raise GaveUp("it did not come back")

    stage = Stage([fault(0, Kind.REDIS_KILLED)], act)
    for now_s in (0.0, 0.1):
        stage.turn(now_s)
    assert stage.log == [Done(0.0, Kind.REDIS_KILLED, None, "it did not come back")]
    assert stage.is_empty


def test_closing_undoes_what_is_going_on() -> None:
    """Ctrl-C in the middle of a fault: whoever was frozen is let go."""
    undone = []

    def act(one: Fault) -> Act[str | None]:
        try:
            yield 9.0
        finally:
            undone.append(one.kind)
        return None

    stage = Stage([fault(0, Kind.WORKER_PAUSED)], act)
    stage.turn(0.0)
    stage.close()
    assert undone == [Kind.WORKER_PAUSED]
