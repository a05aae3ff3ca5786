"""What goes wrong on purpose: a request flows in, a fault's own answer or a cut connection flows out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.redash.answer import HTML, JSON, Answer


class Cut(Exception):
    """The connection is closed, and nothing was answered."""


@dataclass
class _Refusal:
    method: str
    path: re.Pattern[str]
    answer: Answer
    left: int | None


@dataclass
class _Cutting:
    left: int
    done: bool
    for_good: bool


@dataclass
class Faults:
    """The switches; none is on at first."""

    html_everywhere: bool = False
    _refusals: list[_Refusal] = field(default_factory=list)
    _cutting: _Cutting | None = None
    _down: bool = False

    def refuse(
        self,
        method: str,
        path: str,
        status: int,
        body: str,
        times: int | None,
        headers: Mapping[str, str],
    ) -> None:
        """Answer so, `times` times, whatever else would be said. None: until it is mended."""
        kind = JSON if body[:1] in ("{", "[", "") else HTML
        answer = Answer(status, body.encode(), {"Content-Type": kind, **headers})
        self._refusals.append(_Refusal(method, re.compile(path), answer, times))

    def cut(self, after_writes: int, done: bool, for_good: bool) -> None:
        """Let so many writes through; the next one's connection is closed."""
        self._cutting = _Cutting(after_writes, done, for_good)

    def mend(self) -> None:
        """All switches off."""
        self.html_everywhere, self._cutting, self._down = False, None, False
        self._refusals.clear()

    def before(self, method: str, path: str, is_write: bool) -> Answer | None:
        """The answer that is given instead; Cut where it is cut before anything is done."""
        if self._down:
            raise Cut
        if self.html_everywhere:
            return Answer(200, b"<html><body>Please log in</body></html>", {"Content-Type": HTML})
        for one in self._refusals:
            if one.left != 0 and one.method in (method, "*") and one.path.search(path):
                one.left = one.left and one.left - 1
                return one.answer
        if is_write and self._cutting and self._cutting.left == 0 and not self._cutting.done:
            self._close(self._cutting)
        return None

    def after(self, is_write: bool) -> None:
        """Cut where the write was done and its answer is lost."""
        if not (is_write and self._cutting):
            return
        if self._cutting.left == 0:
            self._close(self._cutting)
        self._cutting.left -= 1

    def _close(self, cutting: _Cutting) -> None:
        self._cutting, self._down = None, cutting.for_good
        raise Cut
