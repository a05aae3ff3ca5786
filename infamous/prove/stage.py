"""The stage: a plan and the passing of time flow in, acts begin, go on and end, a log of them flows out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import redis
from sqlalchemy.exc import SQLAlchemyError

from infamous.embedded.folder import ServerError
from infamous.prove.actors import Act, GaveUp
from infamous.prove.faults import SHAPES, Fault, Kind
from pipeline.patience import first_line


@dataclass(frozen=True)
class Done:
    """A fault that is over."""

    # Seconds after the beginning of the run, as it really came.
    at_s: float
    kind: Kind
    # What it did; None when nobody was there to be hurt.
    effect: str | None
    # Why it could not be acted out to its end.
    problem: str | None = None


@dataclass
class _Acting:
    fault: Fault
    act: Generator[float, None, str | None]
    began_s: float
    due_s: float


class Stage:
    """Where the faults are acted out, one after the other in each lane."""

    def __init__(self, plan: Sequence[Fault], act: Callable[[Fault], Act[str | None]]) -> None:
        self._waiting = list(plan)
        self._act = act
        self._acting: list[_Acting] = []
        self.log: list[Done] = []

    @property
    def is_empty(self) -> bool:
        """Whether every fault has come and is over."""
        return not self._waiting and not self._acting

    @property
    def acting(self) -> list[Kind]:
        """What is going wrong at this moment."""
        return [one.fault.kind for one in self._acting]

    def turn(self, now_s: float) -> None:
        """Begin what falls due and take every act a step further. Call it often."""
        for fault in list(self._waiting):
            if fault.at_s <= now_s and self._is_free(fault):
                self._waiting.remove(fault)
                self._acting.append(_Acting(fault, self._act(fault), now_s, now_s))
        for acting in list(self._acting):
            if acting.due_s <= now_s:
                self._step(acting, now_s)

    def close(self) -> None:
        """Break off whatever is going on, and undo it."""
        for acting in self._acting:
            acting.act.close()

    def _is_free(self, fault: Fault) -> bool:
        """Whether its lane is: an act may take longer than was planned."""
        lane = SHAPES[fault.kind].lane
        return all(SHAPES[one.fault.kind].lane is not lane for one in self._acting)

    def _step(self, acting: _Acting, now_s: float) -> None:
        effect = problem = None
        try:
            acting.due_s = now_s + next(acting.act)
        except StopIteration as end:
            effect = end.value
        except (GaveUp, ServerError, SQLAlchemyError, redis.RedisError) as error:
            problem = first_line(error)
        else:
            return
        self._acting.remove(acting)
        self.log.append(Done(acting.began_s, acting.fault.kind, effect, problem))
