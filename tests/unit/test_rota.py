"""Whose turn it is: fair, and nobody waits for who is gone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.rota import Rota, share

FOUR = ("0", "1", "2", "3")


@given(st.integers(1, 40), st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=40))
def test_shares_are_fair_and_leave_nothing_out(streams: int, members: set[str]) -> None:
    """Every stream has an owner, nobody has two more than another, and several share where there are few."""
    keys = [str(number) for number in range(streams)]
    shares = {member: share(keys, members, member) for member in members}
    assert {key for own in shares.values() for key in own} == set(keys)
    sizes = [len(own) for own in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    owners = Counter(key for own in shares.values() for key in own)
    assert max(owners.values()) - min(owners.values()) <= 1


def test_who_is_not_counted_yet_counts_itself() -> None:
    """A consumer that nobody has heard of has a share all the same, so that it is heard of."""
    assert share(FOUR, ["a"], "b") == ("1", "3")


def test_a_flood_on_one_keeps_none_waiting() -> None:
    """Each of one's own has its turn before any has a second, however much one of them holds."""
    rota = Rota(FOUR)
    turns = [rota.next() for _ in range(8)]
    assert turns[:4] == turns[4:] == list(FOUR)
    rota.rest("2", b"5-0")
    assert {rota.next() for _ in range(3)} == {"0", "1", "3"}
    rota.wake("2")
    assert "2" in {rota.next() for _ in range(4)}


def test_others_are_helped_after_ones_own() -> None:
    """While one's own hold more, nobody else's is touched; a glance finds what their owners leave."""
    rota = Rota(FOUR)
    rota.share_out({"0"})
    assert [rota.next() for _ in range(3)] == ["0", "0", "0"]
    rota.rest("0", b"1-0")
    assert rota.next() is None
    assert not rota.has_more()
    seen = set()
    for _ in range(3):
        rota.glance()
        key = rota.next()
        assert key is not None
        seen.add(key)
        rota.rest(key, b"0-0")
    assert seen == {"1", "2", "3"}
    rota.glance()
    helped = rota.next()
    rota.wake("0")
    assert rota.next() == "0"
    rota.rest("0", b"1-0")
    assert rota.next() == helped  # which was not found at rest


def test_a_glance_comes_before_a_flood_of_ones_own() -> None:
    """What an owner cannot reach is read a page at a time, however much all others have to do."""
    rota = Rota(FOUR)
    rota.share_out({"0", "1"})
    found = []
    for _ in range(4):
        rota.glance()
        found += [rota.next(), rota.next(), rota.next()]
    assert found.count("2") == found.count("3") == 2
    rota.glance()
    rota.lose(["2", "3"])
    assert rota.next() in {"0", "1"}


def test_what_becomes_ones_own_is_read_from() -> None:
    """Nobody has looked at it here, so it may hold anything."""
    rota = Rota(FOUR)
    rota.share_out({"0"})
    rota.rest("0", b"1-0")
    rota.share_out({"0", "1"})
    assert rota.own_at_rest() == {"0": b"1-0"}
    assert rota.next() == "1"


def test_those_away_are_left_out_until_they_are_back() -> None:
    """They have no turn, and no bell is hung up there."""
    rota = Rota(FOUR)
    rota.rest("1", b"1-0")
    rota.lose(["0", "1"])
    assert rota.away == ("0", "1")
    assert {rota.next() for _ in range(4)} == {"2", "3"}
    assert rota.own_at_rest() == {}
    rota.regain("0")
    assert "0" in {rota.next() for _ in range(3)}
    rota.lose(FOUR)
    assert rota.is_all_away
    assert rota.next() is None


@pytest.mark.parametrize("times", [1, 2])
def test_streams_that_were_not_known_are_ones_own_at_first(times: int) -> None:
    """They are read from at once, by everybody until they are shared out; and are added once."""
    rota = Rota(["game-events"])
    rota.rest("game-events", b"1-0")
    for _ in range(times):
        rota.add(["game-events:{0}", "game-events:{1}"])
    assert rota.keys == ("game-events", "game-events:{0}", "game-events:{1}")
    assert [rota.next(), rota.next()] == ["game-events:{0}", "game-events:{1}"]
