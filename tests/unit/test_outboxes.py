"""Dividing a parcel by partition, and putting together what was left behind in several."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.streams import number_of
from producer.outbox import History, Ledger, pack
from producer.outboxes import divided, merged
from producer.simulate import Player, dump_player, population, step
from tests.unit.samples import NOW_MS


@given(st.integers(1, 40), st.integers(0, 60), st.integers(1, 16))
def test_a_parcel_is_divided_without_a_loss(size: int, events: int, partitions: int) -> None:
    """Each event and each state is in its player's part, in its order; a second time it is the same parts."""
    players = population(7, size, NOW_MS, 0)
    happened = [step(players[n * n % size], NOW_MS + n) for n in range(events)]
    parcel = pack(happened, players, History(1, 2, is_done=False))
    parts = divided(parcel, partitions)
    for number, part in parts.items():
        mine = [p for p in players if number_of(p.name, partitions) == number]
        assert part.states == {player.name: dump_player(player) for player in mine}
        names = set(part.states)
        assert part.payloads == [
            payload
            for payload, event in zip(parcel.payloads, happened, strict=True)
            if event.player in names
        ]
        assert part.history == parcel.history
    assert sum(len(part.states) for part in parts.values()) == size
    assert len({part.token for part in parts.values()}) == len(parts)
    assert divided(parcel, partitions) == parts


def left(player: Player, seq: int, last_ms: int = NOW_MS) -> Ledger:
    """A ledger of one player who was left there after so many events."""
    state = {"seq": seq, "last_ms": last_ms}
    fields = {name: getattr(player, name) for name in player.__struct_fields__}
    return Ledger({player.name: Player(**(fields | state))}, seq, None)


@pytest.mark.parametrize(
    ("places", "wins"),
    [
        ([(3, 5), (4, 4)], 1),
        ([(4, 4), (3, 5)], 0),
        ([(4, 4), (4, 5)], 1),
        ([(4, 5), (4, 5), (1, 9)], 0),
        ([(0, 0)], 0),
    ],
)
def test_of_several_states_the_one_played_last_wins(
    places: list[tuple[int, int]], wins: int
) -> None:
    """More events are later ones, whatever a clock said; among equals the first place is as good."""
    (player,) = population(7, 1, NOW_MS, 0)
    ledgers = [left(player, *place) for place in places]
    found = merged(ledgers)
    assert found.players[player.name] is ledgers[wins].players[player.name]
    assert found.sent == sum(seq for seq, _ in places)


def test_of_the_history_the_end_counts() -> None:
    """Where one place says that it is played to its end, it is, whatever another was told before that."""
    begun, done = History(1, 2, is_done=False), History(1, 2, is_done=True)
    nothing = Ledger({}, 0, None)
    for histories, expected in (
        ([None, None], None),
        ([None, begun], begun),
        ([begun, done], done),
        ([done, begun, None], done),
    ):
        assert merged([replace(nothing, history=one) for one in histories]).history == expected
