"""Expressions of a person: what they may be, and what comes of those that fail."""

from __future__ import annotations

import json

import pytest

from jobs import tasks
from jobs.fix import THREW, attempt
from jobs.quarantine import Held
from jobs.remedy import BadExpression, Threw, form_of, python
from pipeline.entry import Form
from pipeline.event import Reason, decode, uuid7
from tests.unit.samples import NOW_MS, WINDOW, payload, without

BAD = payload(rank="Hero")


@pytest.mark.parametrize(
    ("expression", "raw", "made"),
    [
        ('{**event, "rank": "Hero"}', b'{"rank": 1, "a": 2.50}', b'{"rank":"Hero","a":2.5}'),
        ('raw.replace(b"NaN", b"0")', b'{"a": NaN}', b'{"a": 0}'),
        ('json.dumps({"n": event is None})', b"no json", b'{"n": true}'),
        ("[one for one in event if one]", b"[0, 1]", b"[1]"),
        ('re.sub("a", "b", raw.decode())', b"a", b"b"),
        ("(lambda given: {**given})(event)", b"{}", b"{}"),
        ('{"word": "\\ud800"}', b"{}", b'{"word":"\\ud800"}'),
        (' {"a": "é"}\n', b"{}", '{"a":"é"}'.encode()),
    ],
)
def test_an_expression_makes_new_bytes(expression: str, raw: bytes, made: bytes) -> None:
    """A dict or a list is written as JSON; text and bytes are taken as they are."""
    assert python(expression)(raw) == made


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ('event["gone"]', "KeyError: 'gone'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("exit(3)", "SystemExit: 3"),
        ("event", "it gave NoneType"),
        ("5", "it gave int; a dict, a list, bytes or a str is expected"),
        ('{"a": {1}}', "TypeError: Object of type set is not JSON serializable"),
        ("(lambda again: again(again))(lambda again: again(again))", "RecursionError"),
        ('exit("\\x1b[2Jx\\ud800")', "SystemExit: \\x1b[2Jx\\ud800"),
    ],
)
def test_what_an_expression_raises_is_told_in_a_line(expression: str, words: str) -> None:
    """Nothing ends the run, not even an exit, and nothing that is raised reaches the terminal as it is."""
    with pytest.raises(Threw) as caught:
        python(expression)(b"{}" if expression != "event" else b"no json")
    assert str(caught.value).startswith(words)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("event[", "was never closed"),
        ("", "invalid syntax"),
        ("rank = 1", "invalid syntax"),
        ("{**evnt}", "there is no evnt; it may use event, raw, json, re, uuid7"),
        ("[one for one in event if on]", "there is no on;"),
        ("a\0b", "null bytes"),
    ],
)
def test_what_can_never_work_is_told_before_anything_is_tried(expression: str, words: str) -> None:
    """A typing error must not count as a try on every entry."""
    with pytest.raises(BadExpression, match=words):
        python(expression)


def test_an_expression_sees_the_bytes_anew_each_time() -> None:
    """What it does to one event does not reach the next, nor the same again."""
    remedy = python('event.pop("a") and event')
    assert [remedy(b'{"a": 1}'), remedy(b'{"a": 1}')] == [b"{}", b"{}"]


def test_an_id_can_be_made_that_is_the_same_again() -> None:
    """Where the entry has none, a fix that is run twice must not make two events."""
    remedy = python(f'{{**event, "id": uuid7({NOW_MS}, raw)}}')
    one, two = (decode(remedy(without("id")), WINDOW) for _ in range(2))
    assert one.id == two.id
    assert one.id.version == 7
    assert one.ts_ms == NOW_MS
    assert decode(remedy(without("id", seq=9)), WINDOW).id != one.id


def test_an_attempt_is_judged_as_a_consumer_would() -> None:
    """It is an event, it is still none, or the expression failed; each with its reason."""
    held = Held(b"k", BAD, "bad_rank")
    good = attempt(held, python('{**event, "rank": "Guardian"}'), WINDOW)
    assert (good.reason, good.ids[0]) == (None, good.ids[1])
    assert attempt(held, python('{**event, "rank": "Thug"}'), WINDOW).reason == Reason.BAD_RANK
    threw = attempt(held, python("event.rank"), WINDOW)
    assert (threw.reason, threw.made) == (THREW, None)
    moved = attempt(
        held, python(f'{{**event, "rank": "Guardian", "id": "{uuid7(NOW_MS, 9)}"}}'), WINDOW
    )
    assert moved.reason is None
    assert moved.ids == (json.loads(BAD)["id"], str(uuid7(NOW_MS, 9)))


def test_a_list_becomes_an_array() -> None:
    """One entry may hold many events, and may become many."""
    assert (form_of(b" [1]"), form_of(b"{}"), form_of(b"")) == (Form.EVENTS, Form.EVENT, Form.EVENT)
    twice = attempt(Held(b"k", payload(), "bad_array"), python("[event, event]"), WINDOW)
    assert twice.reason is None
    one_bad = attempt(Held(b"k", payload(), "bad_array"), python("[event, {}]"), WINDOW)
    assert one_bad.reason == Reason.MISSING_KEY


def test_no_task_of_the_queue_runs_an_expression() -> None:
    """Who can write to RQ's Redis must not be able to run code; import-linter checks the same."""
    for task in tasks.ALL:
        assert "expression" not in task.__code__.co_varnames
        assert not {"remedy", "fix", "eval"} & {*task.__globals__, *task.__code__.co_names}
