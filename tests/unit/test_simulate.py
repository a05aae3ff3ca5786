"""The simulator keeps the game's rules, and the same seed keeps giving the same events."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.event import (
    ACTIONS,
    MAX_PLAYER_CHARS,
    RANK_BY_KARMA,
    Event,
    Window,
    datetime_of,
    decode,
    encode,
)
from producer import game
from producer.simulate import (
    COLE,
    DAY_MS,
    MINUTE_MS,
    PLANTED,
    Player,
    advance,
    dump_player,
    history,
    load_player,
    player_name,
    population,
    step,
    write,
    written_history,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

START_MS = 1_790_035_200_000  # a midnight, UTC
UNTIL_MS = START_MS + 30 * DAY_MS


class Act(NamedTuple):
    """An event with its details parsed."""

    event: Event
    details: dict[str, Any]


class World(NamedTuple):
    """A month of a population: the players at its end, and what each of them did."""

    players: list[Player]
    acts: dict[str, list[Act]]

    def each(self) -> Iterator[Act]:
        """Every act, player after player."""
        for acts in self.acts.values():
            yield from acts


@pytest.fixture(scope="module")
def world() -> World:
    """A month of 200 players: the invariants are checked on every event of it."""
    players = population(1, 200, START_MS, 30)
    acts: dict[str, list[Act]] = defaultdict(list)
    for player, event in history(players, UNTIL_MS):
        acts[player.name].append(Act(event, msgspec.json.decode(event.details)))
    return World(players, acts)


def digest(seed: int, size: int, days: int) -> str:
    """A fingerprint of a whole history, as it would go onto the stream."""
    sha = hashlib.sha256()
    for _, event in history(population(seed, size, START_MS, days), START_MS + days * DAY_MS):
        sha.update(encode(event) + b"\n")
    return sha.hexdigest()


# --- determinism


def test_the_same_seed_gives_the_same_bytes() -> None:
    """A run can be repeated byte for byte, so truth and stream are about the same events."""
    assert digest(5, 20, 5) == digest(5, 20, 5)
    assert digest(5, 20, 5) != digest(6, 20, 5)


def test_the_bytes_are_the_same_on_every_python() -> None:
    """A new Python, machine or refactoring does not change the events; a change on purpose does."""
    assert digest(1, 10, 3) == ("bb49d867d93b48ffc429ebe2d94bc415cbb59967a7911ee4d5378621affa5172")


def test_a_player_does_not_depend_on_the_others() -> None:
    """A larger population contains the smaller one, player by player."""
    assert population(9, 50, START_MS, 30)[:7] == population(9, 7, START_MS, 30)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(1, 400), max_size=8), seed=st.integers(0, 3))
def test_stopping_anywhere_changes_nothing(cuts: list[int], seed: int) -> None:
    """Players stored after any event and loaded again go on as if never interrupted."""
    until_ms = START_MS + 3 * DAY_MS
    whole = [encode(event) for _, event in history(population(seed, 6, START_MS, 3), until_ms)]
    players = population(seed, 6, START_MS, 3)
    parts: list[bytes] = []
    for cut in [*cuts, len(whole) + 1]:
        for taken, (_, event) in enumerate(history(players, until_ms), start=1):
            parts.append(encode(event))
            if taken == cut:
                break
        players = [load_player(dump_player(player)) for player in players]
    assert parts == whole


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(START_MS, START_MS + 4 * DAY_MS), max_size=6).map(sorted))
def test_history_can_be_taken_in_slices_of_time(ends_ms: list[int]) -> None:
    """Consecutive calls give the same as one, and no event at or past the end asked for."""
    until_ms = START_MS + 4 * DAY_MS
    whole = [event for _, event in history(population(2, 5, START_MS, 4), until_ms)]
    players = population(2, 5, START_MS, 4)
    sliced: list[Event] = []
    for end_ms in [*ends_ms, until_ms]:
        part = [event for _, event in history(players, end_ms)]
        assert all(event.ts_ms < end_ms for event in part)
        sliced += part
    assert sliced == whole


def test_the_state_of_a_player_stays_small(world: World) -> None:
    """The state travels with every event to Redis: a few hundred bytes, even at the end of a month."""
    assert max(len(dump_player(player)) for player in world.players) < 768


def test_states_of_other_versions_are_loaded() -> None:
    """A state written by newer code, or by older code without the newest keys, is not lost."""
    player = population(1, 1, START_MS, 0)[0]
    fields = json.loads(dump_player(player))
    required = {"name", "persona", "rng", "next_ms", "day0_ms", "stop_ms"}
    old = {key: value for key, value in fields.items() if key in required}
    assert load_player(json.dumps(fields | {"mood": {"of": "tomorrow"}}).encode()) == player
    assert load_player(json.dumps(old).encode()).energy == game.BATTERY


def test_importing_it_reaches_no_server_library() -> None:
    """The room stays pure: no server library and no other source of chance is even loaded."""
    code = "import sys, producer.truth; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert not {"redis", "rq", "psycopg2", "sqlalchemy"} & set(loaded.stdout.split())
    code = "import sys, producer.simulate; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert not {"random", "secrets", "socket"} & set(loaded.stdout.split())


# --- as it goes onto the stream


def test_events_are_written_as_the_encoder_writes_them() -> None:
    """The fast way to the stream and the plain one give the same bytes, whatever happens and whenever."""
    ours, plain = population(11, 5, START_MS, 0), population(11, 5, START_MS, 0)
    actions: Counter[str] = Counter()
    karma: set[bool] = set()
    ts_ms = START_MS - 500
    for number in range(20_000):
        # Through hours, days and the end of a year; now and then at a full second.
        ts_ms += (0, 1, 999, 500, 61_007, 3_600_001)[number % 6]
        event = step(plain[number % 5], ts_ms)
        assert write(ours[number % 5], ts_ms) == encode(event)
        actions[event.action] += 1
        karma.add(event.karma_delta < 0)
    assert ours == plain
    assert set(actions) == set(ACTIONS)
    assert min(actions.values()) >= 10
    assert karma == {True, False}


@pytest.mark.parametrize("ts_ms", [0, 1, 999, 1000, 951_782_399_999, 951_782_400_000, 2**47])
def test_any_time_is_written_as_the_encoder_writes_it(ts_ms: int) -> None:
    """A clock at either end of the calendar, or about a leap day, makes no difference."""
    (ours,), (plain,) = population(1, 1, ts_ms, 0), population(1, 1, ts_ms, 0)
    assert write(ours, ts_ms) == encode(step(plain, ts_ms))


def test_the_written_history_is_the_history() -> None:
    """What is sent of the past, and what the truth is counted from, are the same events."""
    until_ms = START_MS + 3 * DAY_MS
    ours, plain = population(3, 10, START_MS, 3), population(3, 10, START_MS, 3)
    written = [(p.name, payload) for p, payload in written_history(ours, until_ms)]
    assert written == [(p.name, encode(event)) for p, event in history(plain, until_ms)]
    assert len(written) > 500
    assert ours == plain


# --- the population


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63),
    start_ms=st.integers(0, 4_000_000_000_000),
    days=st.integers(1, 60),
)
def test_everybody_arrives_inside_the_window(seed: int, start_ms: int, days: int) -> None:
    """Whatever the window, each first event lies in it, on the player's day 0; Cole's on the first."""
    players = population(seed, 30, start_ms, days)
    for player in players:
        assert start_ms <= player.next_ms < start_ms + days * DAY_MS
        assert player.day0_ms == player.next_ms // DAY_MS * DAY_MS
    assert players[0].day0_ms == start_ms // DAY_MS * DAY_MS


def test_without_history_everybody_is_fresh() -> None:
    """Live play without a past starts at once, with nothing done yet."""
    players = population(3, 40, START_MS + 77, 0)
    assert all((p.next_ms, p.seq, p.xp, p.karma) == (START_MS + 77, 0, 0, 0) for p in players)


def test_one_player_is_cole() -> None:
    """The live show is about Cole MacGrath; he wavers, plays every day and never leaves."""
    (cole,) = population(1, 1, START_MS, 30)
    assert (cole.name, cole.persona, cole.daily) == (COLE, "wavering", True)
    assert population(1, 0, START_MS, 30) == []


def test_names_are_short_unique_and_printable() -> None:
    """Names are the players' identity: no two alike, however many there are."""
    names = [player_name(number) for number in range(5000)]
    assert len(set(names)) == 5000
    assert all(1 <= len(name) <= MAX_PLAYER_CHARS and name.isascii() for name in names)


def test_arrivals_lean_to_the_start(world: World) -> None:
    """Most players arrive early enough for their seventh day to be seen."""
    early = sum(player.day0_ms < START_MS + 15 * DAY_MS for player in world.players)
    assert early > 0.65 * len(world.players)


# --- every event


def test_every_event_is_taken_by_the_decoder(world: World) -> None:
    """What the simulator sends is what the consumer stores: nothing of it is refused or changed."""
    window = Window(START_MS, UNTIL_MS)
    for event, _ in world.each():
        spelled = msgspec.structs.replace(event, ts=datetime_of(event.ts_ms))
        assert decode(encode(event), window) == spelled
        assert len(event.details_json or b"") < 1024


def test_ids_are_never_given_twice(world: World) -> None:
    """The id is the event's identity everywhere."""
    ids = [event.id for event, _ in world.each()]
    assert len(set(ids)) == len(ids) > 100_000


def test_the_chain_of_a_player_has_no_gap(world: World) -> None:
    """What `infamous audit` asks of the table holds at the source: seq, karma, rank, XP and time."""
    for acts in world.acts.values():
        karma = xp = ts_ms = 0
        for number, (event, details) in enumerate(acts, start=1):
            karma += event.karma_delta
            xp += event.xp_delta
            assert event.seq == number
            assert event.karma_total == karma
            assert -100 <= karma <= 100
            assert event.rank == RANK_BY_KARMA[karma]
            assert details["xp"] == xp >= 0
            assert 0 <= details["energy"] <= 100
            assert event.ts_ms > ts_ms
            ts_ms = event.ts_ms


def test_history_is_in_the_order_of_time() -> None:
    """All players are merged into one stream that only goes forward."""
    times = [e.ts_ms for _, e in history(population(4, 30, START_MS, 5), START_MS + 5 * DAY_MS)]
    assert times == sorted(times)


DISTRICT = {district.name: district for district in game.DISTRICTS}
MISSION = {mission.name: mission for mission in game.MISSIONS}
ATTACK = {a.name: a for a in (*game.ATTACKS, *game.FINISHERS.values())}
ABILITY = {ability.name: ability for ability in game.ABILITIES}


def test_kills_are_of_the_districts_gang_at_its_price(world: World) -> None:
    """XP by enemy can be checked against the table, and no gang is met outside its district."""
    for event, details in world.each():
        if event.action == "kill_enemy":
            foes = {foe.name: foe.xp for foe in DISTRICT[details["district"]].enemies}
            assert event.xp_delta == foes[details["enemy"]]
            finisher = details["ability"] in {"Arc Restraint", "Bio Leech"}
            assert abs(event.karma_delta) <= (1 if finisher else 0)
        if event.action == "kill_civilian":
            assert details["civilian"] in game.CIVILIANS
            assert event.karma_delta < 0 or event.karma_total == -100
            assert event.xp_delta == 0


def test_energy_comes_from_a_source_of_the_district(world: World) -> None:
    """A recharge raises the battery, from something that is there; a person costs karma."""
    for acts in world.acts.values():
        energy = game.BATTERY
        for event, details in acts:
            if event.action == "recharge":
                assert event.energy_source in {
                    s.name for s in DISTRICT[details["district"]].sources
                }
                assert details["energy"] == energy + details["gain"] > energy
                drained = event.energy_source == "person"
                assert event.karma_delta == 0 or drained
                assert event.karma_delta < 0 or event.karma_total == -100 or not drained
            else:
                assert event.energy_source is None
            energy = details["energy"]


def test_attacks_cost_energy_but_for_the_bolt(world: World) -> None:
    """The battery falls by the price of the attack, and the Lightning Bolt is free."""
    assert ATTACK["Lightning Bolt"].energy == 0
    assert all(a.energy > 0 for a in ATTACK.values() if a.name != "Lightning Bolt")
    for acts in world.acts.values():
        energy = game.BATTERY
        for event, details in acts:
            if event.action in {"kill_enemy", "kill_civilian"}:
                assert energy - details["energy"] == ATTACK[details["ability"]].energy
            energy = details["energy"]


def test_powers_are_bought_in_order_and_used_by_rank(world: World) -> None:
    """Upgrades cost their price at a rank that may; a power is used only once bought, and by rank."""
    for acts in world.acts.values():
        owned: dict[str, int] = {}
        before, playthrough = "Neutral", 1
        for event, details in acts:
            if details["playthrough"] != playthrough:
                playthrough, owned = details["playthrough"], {}
            if event.action == "ability_upgrade":
                name, number = details["ability"], details["level"]
                level = ABILITY[name].levels[number - 1]
                assert number == owned.get(name, 0) + 1
                assert -event.xp_delta == details["price"] == level.price
                assert event.rank in level.ranks
                assert game.MISSIONS.index(MISSION[details["mission"]]) >= ABILITY[name].opens_after
                owned[name] = number
            else:
                assert event.xp_delta >= 0
                used = details.get("ability")
                if used is not None and not ATTACK[used].innate:
                    assert owned[used] >= 1
                    assert before in ABILITY[used].levels[0].ranks
            before = event.rank


def test_missions_are_played_in_order(world: World) -> None:
    """A player stays in a mission until it is complete, then the next begins; never another one."""
    for acts in world.acts.values():
        done = 0
        for event, details in acts:
            playthrough, index = divmod(done, len(game.MISSIONS))
            mission = game.MISSIONS[index]
            assert (details["mission"], details["district"]) == (mission.name, mission.district)
            assert details["playthrough"] == playthrough + 1
            if event.action == "mission_complete":
                done += 1
                assert event.xp_delta == (500 if mission.kind == "story" else 100)
                assert details["kind"] == mission.kind


def test_a_moral_choice_moves_karma_to_its_side(world: World) -> None:
    """A choice is met once in a mission that has one, and karma moves by its amount, clamp aside."""
    met: Counter[tuple[str, int, str]] = Counter()
    for event, details in world.each():
        if event.action == "moral_choice":
            met[event.player, details["playthrough"], details["mission"]] += 1
            choice = MISSION[details["mission"]].choice
            assert choice is not None
            assert details["choice"] == choice.name
            assert details["chosen"] == (choice.good if details["side"] == "good" else choice.evil)
            way = 1 if details["side"] == "good" else -1
            assert event.karma_delta == way * choice.karma or abs(event.karma_total) == 100
    assert set(met.values()) == {1}


def test_the_games_names_stand_in_json_as_they_are() -> None:
    """Details are written without escaping, which is right only for plain names."""

    def names(value: object) -> Iterator[str]:
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from names(key)
                yield from names(item)
        elif isinstance(value, list | tuple | set | frozenset):
            for item in value:
                yield from names(item)

    tables = [game.DISTRICTS, game.MISSIONS, game.ABILITIES, game.ATTACKS, game.CIVILIANS]
    texts = list(names([msgspec.to_builtins(table) for table in tables]))
    assert len(texts) > 100
    assert all(t.isascii() and t.isprintable() and '"' not in t and "\\" not in t for t in texts)
    assert len(MISSION) == len(game.MISSIONS)


def test_the_game_starts_over_when_it_is_won() -> None:
    """Play never ends: after the last mission the first comes again, karma and XP go on."""
    (cole,) = population(1, 1, START_MS, 0)
    while cole.playthrough == 1:
        before = cole.xp, cole.karma
        event = step(cole, cole.last_ms + 1000)
    assert event.action == "mission_complete"
    assert (cole.mission, cole.abilities) == (0, {})
    assert (cole.xp, cole.karma) == (before[0] + event.xp_delta, before[1] + event.karma_delta)


# --- what is planted


def test_sessions_keep_apart_and_inside_a_day(world: World) -> None:
    """The 30-minute rule finds exactly the sessions that were played, none across midnight UTC."""
    for acts in world.acts.values():
        for (a, _), (b, _) in pairwise(acts):
            gap_ms = b.ts_ms - a.ts_ms
            same_day = a.ts_ms // DAY_MS == b.ts_ms // DAY_MS
            assert gap_ms > 30 * MINUTE_MS or (gap_ms < MINUTE_MS and same_day)


def test_cole_plays_every_day(world: World) -> None:
    """There is always something new from Cole."""
    days = {event.ts_ms // DAY_MS for event, _ in world.acts[COLE]}
    assert len(days) == 30


def test_quitters_leave_at_the_spike_and_nobody_else_does(world: World) -> None:
    """The drop in the funnel at the spike is made by quitters alone, who never come back."""
    left = [player for player in world.players if player.gave_up]
    assert len(left) > 10
    for player in world.players:
        last = world.acts[player.name][-1]
        if player.gave_up:
            assert (player.persona, player.gone) == ("quitter", True)
            assert last.details["mission"] == PLANTED.spike
            assert last.event.action != "mission_complete"
        elif player.persona == "quitter":
            finished = {
                d["mission"] for e, d in world.acts[player.name] if e.action == "mission_complete"
            }
            assert PLANTED.spike not in finished


def test_someone_gone_is_never_seen_again(world: World) -> None:
    """More time does not bring back who has left."""
    gone = [load_player(dump_player(player)) for player in world.players if player.gone]
    assert list(history(gone, UNTIL_MS + 365 * DAY_MS)) == []


def test_personas_choose_by_their_nature(world: World) -> None:
    """Heroes mostly choose good, villains evil, and the wavering do both."""
    personas = {player.name: player.persona for player in world.players}
    sides: dict[str, Counter[str]] = defaultdict(Counter)
    for event, details in world.each():
        if event.action == "moral_choice":
            sides[personas[event.player]][details["side"]] += 1
    share = {name: count["good"] / count.total() for name, count in sides.items()}
    assert share["hero"] > 0.85
    assert share["villain"] < 0.15
    assert 0.3 < share["wavering"] < 0.7


def test_a_month_of_200_players_is_a_fair_amount(world: World) -> None:
    """The first start has enough to look at, and is loaded within a minute."""
    assert 100_000 <= sum(len(acts) for acts in world.acts.values()) <= 200_000


# --- live


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_of_cole_is_worth_watching(seed: int) -> None:
    """One event a second shows ranks changing, missions, upgrades, choices and some sin."""
    (cole,) = population(seed, 1, START_MS, 0)
    events = [step(cole, START_MS + second * 1000) for second in range(3600)]
    actions = Counter(event.action for event in events)
    assert sum(a.rank != b.rank for a, b in pairwise(events)) >= 4
    assert {event.karma_total > 0 for event in events} == {True, False}
    assert 30 <= actions["mission_complete"] <= 90
    assert 10 <= actions["ability_upgrade"] <= 90
    assert actions["recharge"] >= 60
    assert actions["kill_civilian"] >= 3
    assert actions["moral_choice"] >= 10


def test_a_clock_set_back_does_not_break_the_order() -> None:
    """A clock corrected in passing never turns a player's time back; a wrong one is not followed ahead."""
    (cole,) = population(1, 1, START_MS, 0)
    asked = (START_MS, START_MS, START_MS - 5, START_MS + 9, START_MS - 10 * MINUTE_MS)
    times = [step(cole, ts_ms).ts_ms for ts_ms in asked]
    assert times == [START_MS, START_MS, START_MS, START_MS + 9, START_MS - 10 * MINUTE_MS]


def test_history_goes_on_after_live_play() -> None:
    """A player that has played live since is picked up at its own time, not at a plan long past."""
    players = population(1, 3, START_MS, 2)
    live_ms = START_MS + 3 * DAY_MS
    for player in players:
        step(player, live_ms)
    times = [event.ts_ms for _, event in history(players, live_ms + 2 * DAY_MS)]
    assert times == sorted(times)
    assert times[0] > live_ms


def test_advance_plans_the_future() -> None:
    """After each event either the next one is planned, later, or the player is gone for good."""
    for player in population(8, 60, START_MS, 10):
        for _ in range(2000):
            due_ms = player.next_ms
            event = advance(player)
            assert event.ts_ms == due_ms == player.last_ms
            if player.gone:
                assert player.next_ms == due_ms
                break
            assert due_ms < player.next_ms < due_ms + 91 * DAY_MS
