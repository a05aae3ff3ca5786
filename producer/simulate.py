"""Players of inFAMOUS: a seed and a clock flow in, Events flow out. Pure and deterministic.

A ``Player`` is the whole of what there is to know about one player, its random numbers included, so a
player that was stored and loaded goes on as if nothing had happened. ``step`` is the one way to act.
History plans its own clock (``advance``, ``history``); live play brings the wall clock to ``step``.

Only whole numbers decide anything: the same seed gives the same bytes on every machine and Python.
What is planted here to be found again by the dashboards is one frozen table, ``PLANTED``.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec
from msgspec import Raw

from pipeline.event import (
    INT32_MAX,
    KARMA_MAX,
    KARMA_MIN,
    RANK_BY_KARMA,
    Action,
    Event,
    Rank,
    uuid7,
)
from producer import game
from producer.game import EVIL, GOOD
from producer.payload import payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COLE: Final = "Cole MacGrath"

SECOND_MS: Final = 1000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

# Clocks are corrected by less than this in passing; by more only when they were plainly wrong.
SMALL_SETBACK_MS: Final = MINUTE_MS

Persona = Literal["hero", "villain", "wavering", "quitter"]


# --- what is planted


class Character(msgspec.Struct, frozen=True):
    """How a persona plays. Active on day d after arrival: day1 * (1 + stretch) / (d + stretch)."""

    share_pct: int  # of the population
    day1_pct: int
    stretch_days: int  # the larger, the slower the curve falls
    loyal_pct: int  # of moral choices, those that go the way the player leans

    def active_on(self, day: int) -> float:
        """The planted probability of playing on that day after arrival, which is day 0."""
        if day == 0:
            return 1.0
        if day > LAST_DAY:
            return 0.0
        return self.day1_pct * (1 + self.stretch_days) / (100 * (day + self.stretch_days))


class Planted(msgspec.Struct, frozen=True):
    """What a dashboard should be able to find. The shape of the curves is ours, not measured."""

    personas: dict[Persona, Character]
    spike: str
    quit_pct: int  # at the spike: a quitter's chance to leave for good after each event
    switch_pct: int  # a wavering player changes sides between two missions ...
    switch_far_pct: int  # ... and sooner where its karma is far out
    far_karma: int
    finisher_pct_good: int  # of kills, those that move karma, by how the player leans
    finisher_pct_evil: int
    civilian_pct_good: float  # of fights, those that kill a civilian
    civilian_pct_evil: float
    low_energy: int  # below this a player recharges
    sessions_a_day: tuple[int, ...]  # equally likely, as are the two below
    session_minutes: tuple[int, ...]
    first_hour_utc: tuple[int, ...]
    event_gap_ms: tuple[int, int]
    session_gap_min: tuple[int, int]


# A console game's sessions: a quarter of an hour, once or twice a day, mostly in the evening.
PLANTED: Final = Planted(
    personas={
        "hero": Character(share_pct=35, day1_pct=48, stretch_days=7, loyal_pct=92),
        "villain": Character(share_pct=25, day1_pct=42, stretch_days=6, loyal_pct=90),
        "wavering": Character(share_pct=20, day1_pct=42, stretch_days=5, loyal_pct=80),
        "quitter": Character(share_pct=20, day1_pct=40, stretch_days=5, loyal_pct=75),
    },
    spike=game.SPIKE,
    quit_pct=3,
    switch_pct=30,
    switch_far_pct=60,
    far_karma=50,
    finisher_pct_good=20,
    finisher_pct_evil=10,
    civilian_pct_good=0.4,
    civilian_pct_evil=3.0,
    low_energy=25,
    sessions_a_day=(1, 1, 1, 2, 2, 3),
    session_minutes=(5, 7, 9, 11, 13, 14, 16, 18, 21, 26),
    first_hour_utc=(9, 11, 13, 15, 16, 17, 18, 18, 19, 19, 20, 20, 21, 22),
    event_gap_ms=(2_000, 16_000),
    session_gap_min=(40, 240),
)

# Nobody comes back later than this: whoever draws no day up to here has churned.
LAST_DAY: Final = 90


# --- the player


class Player(msgspec.Struct, omit_defaults=True):
    """One player, whole. New fields need a default: older states are still loaded."""

    name: str
    persona: Persona
    rng: int  # the state of its random numbers, 64 bits
    next_ms: int  # when history has its next event
    day0_ms: int  # midnight UTC before its arrival
    stop_ms: int  # the session ends before this
    sessions_left: int = 0  # today, after this one
    daily: bool = False  # plays every day and never leaves
    gone: bool = False  # for good ...
    gave_up: bool = False  # ... at the spike, rather than by never coming back
    last_ms: int = 0  # its last event
    seq: int = 0
    karma: int = 0
    xp: int = 0
    energy: int = game.BATTERY
    side: int = GOOD  # how it leans now
    playthrough: int = 1
    mission: int = 0  # index into game.MISSIONS
    goal: int = 0  # kills this mission takes; 0: not begun
    kills: int = 0
    recharges: int = 0
    choice_at: int = -1  # kills after which the moral choice comes; -1: none, or made
    wish: str = ""  # the ability to be upgraded next
    price: int = 0  # of the wish; 0: look for one
    abilities: dict[str, int] = {}  # level by name


_player_decoder: Final = msgspec.json.Decoder(Player)


def dump_player(player: Player) -> bytes:
    """The player as JSON, a few hundred bytes."""
    return msgspec.json.encode(player)


def load_player(data: bytes) -> Player:
    """The player as it was dumped. Raises msgspec.MsgspecError for anything else."""
    return _player_decoder.decode(data)


# --- random numbers: SplitMix64, whose whole state is one number

_MASK: Final = 2**64 - 1


def _draw(player: Player) -> int:
    """64 random bits."""
    player.rng = z = (player.rng + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


# What an id has of chance is what the deed had, stirred: it is as unique, and tells nothing of the deed.
_STIR: Final = 0xD6E8FEB86659FD93
_MASK_74: Final = 2**74 - 1


def _odds(pct: float) -> int:
    """A chance in percent, as the bound below which a 16-bit draw must fall."""
    return round(pct * 65_536 / 100)


T = TypeVar("T")


def _wheel(weights: Iterable[tuple[T, int]]) -> tuple[T, ...]:
    """Each thing as often as its weight: picking one by chance is then one index."""
    return tuple(thing for thing, weight in weights for _ in range(weight))


# --- the tables of the game, laid out for picking

_CIVILIAN_ODDS: Final = {
    GOOD: _odds(PLANTED.civilian_pct_good),
    EVIL: _odds(PLANTED.civilian_pct_evil),
}
_FINISHER_ODDS: Final = {
    GOOD: _odds(PLANTED.finisher_pct_good),
    EVIL: _odds(PLANTED.finisher_pct_evil),
}
_LOYAL_ODDS: Final = {name: _odds(c.loyal_pct) for name, c in PLANTED.personas.items()}
_QUIT_ODDS: Final = _odds(PLANTED.quit_pct)

_DISTRICT: Final = {district.name: district for district in game.DISTRICTS}
_FOES: Final = tuple(
    _wheel((foe, foe.weight) for foe in _DISTRICT[m.district].enemies) for m in game.MISSIONS
)
_SOURCES: Final = tuple(
    {
        GOOD: _wheel((s, s.good_weight) for s in _DISTRICT[m.district].sources),
        EVIL: _wheel((s, s.evil_weight) for s in _DISTRICT[m.district].sources),
    }
    for m in game.MISSIONS
)
_CHOICES: Final = {i: m.choice for i, m in enumerate(game.MISSIONS) if m.choice is not None}
_ATTACKS: Final = _wheel((attack, attack.weight) for attack in game.ATTACKS)
_ABILITY: Final = {ability.name: ability for ability in game.ABILITIES}
_SIDE_NAME: Final = {GOOD: "good", EVIL: "evil"}
# The game's names need no escaping in JSON (game.py), so details are written, not encoded.
_OPENINGS: Final = tuple(
    f'{{"district":"{m.district}","mission":"{m.name}","playthrough":' for m in game.MISSIONS
)
_SPIKE: Final = next(i for i, m in enumerate(game.MISSIONS) if m.name == PLANTED.spike)


# --- one thing after the other

# What is made of a deed, from its time, the random bits of its id, and what an event says, in this order.
Form = Callable[
    [int, int, str, Action, int, int, int, Rank, "str | None", int, str],
    T,
]


def step(player: Player, ts_ms: int) -> Event:
    """The next thing this player does, at ts_ms: always possible, forever.

    Several events may share a millisecond; ``seq`` tells their order. A clock set back a little
    stands still until it has caught up; one set back far is followed, since the time it had shown
    before was wrong and consumers would refuse events from the future.
    """
    return _act(player, ts_ms, _event)


def write(player: Player, ts_ms: int) -> bytes:
    """``step``, written down at once as it goes onto the stream: half as fast again as to encode it."""
    return _act(player, ts_ms, payload)


def _event(
    ts_ms: int,
    chance: int,
    player: str,
    action: Action,
    xp_delta: int,
    karma_delta: int,
    karma_total: int,
    rank: Rank,
    energy_source: str | None,
    seq: int,
    details: str,
) -> Event:
    return Event(
        id=uuid7(ts_ms, chance),
        player=player,
        action=action,
        xp_delta=xp_delta,
        karma_delta=karma_delta,
        karma_total=karma_total,
        rank=rank,
        energy_source=energy_source,
        seq=seq,
        details=Raw(details.encode()),
    )


def _act(player: Player, ts_ms: int, form: Form[T]) -> T:
    if player.last_ms - SMALL_SETBACK_MS < ts_ms:
        ts_ms = max(ts_ms, player.last_ms)
    player.last_ms = ts_ms
    bits = _draw(player)  # cut up below: 16 bits each to what, whom and how, the rest to the id
    if not player.goal:
        _begin_mission(player)
    if player.energy < PLANTED.low_energy:
        return _recharge(player, ts_ms, bits, form)
    if player.kills == player.choice_at:
        return _choose(player, ts_ms, bits, form)
    if player.kills >= player.goal:
        return _complete(player, ts_ms, bits, form)
    if player.xp >= player.price:
        upgrade = _upgrade(player, ts_ms, bits, form)
        if upgrade is not None:
            return upgrade
    if bits & 0xFFFF < _CIVILIAN_ODDS[player.side]:
        return _kill_civilian(player, ts_ms, bits, form)
    return _kill_enemy(player, ts_ms, bits, form)


def _book(
    player: Player,
    ts_ms: int,
    bits: int,
    form: Form[T],
    action: Action,
    more: str,
    xp: int = 0,
    karma: int = 0,
    source: str | None = None,
) -> T:
    """Book the XP and the karma, and take down what happened."""
    player.seq = seq = player.seq + 1
    player.xp = balance = player.xp + xp
    before = player.karma
    player.karma = total = min(max(before + karma, KARMA_MIN), KARMA_MAX) if karma else before
    details = (
        f'{_OPENINGS[player.mission]}{player.playthrough},"xp":{balance},'
        f'"energy":{player.energy},{more}}}'
    )
    return form(
        ts_ms,
        bits * _STIR >> 40 & _MASK_74,
        player.name,
        action,
        xp,
        total - before,
        total,
        RANK_BY_KARMA[total],
        source,
        seq,
        details,
    )


def _kill_enemy(player: Player, ts_ms: int, bits: int, form: Form[T]) -> T:
    foes = _FOES[player.mission]
    foe = foes[(bits >> 16 & 0xFFFF) % len(foes)]
    attack, karma = _attack(player, bits), 0
    # Its own bits: the low ones have just decided that this is no civilian.
    if bits >> 38 & 0xFFFF < _FINISHER_ODDS[player.side]:
        attack, karma = game.FINISHERS[player.side], player.side * game.KARMA_FINISHER
    player.energy -= attack.energy
    player.kills += 1
    more = f'"ability":"{attack.name}","enemy":"{foe.name}"'
    return _book(player, ts_ms, bits, form, "kill_enemy", more, xp=foe.xp, karma=karma)


def _kill_civilian(player: Player, ts_ms: int, bits: int, form: Form[T]) -> T:
    civilian = game.CIVILIANS[(bits >> 16 & 0xFFFF) % len(game.CIVILIANS)]
    attack = _attack(player, bits)
    player.energy -= attack.energy
    more = f'"ability":"{attack.name}","civilian":"{civilian}"'
    return _book(player, ts_ms, bits, form, "kill_civilian", more, karma=game.KARMA_CIVILIAN)


def _attack(player: Player, bits: int) -> game.Attack:
    """One that the player has, its rank still allows and its battery can pay; else a bolt."""
    attack = _ATTACKS[(bits >> 32 & 0x3F) % len(_ATTACKS)]
    if attack.energy > player.energy:
        return game.BOLT
    if attack.innate:
        return attack
    rank = RANK_BY_KARMA[player.karma]
    if attack.name in player.abilities and rank in _ABILITY[attack.name].levels[0].ranks:
        return attack
    return game.BOLT


def _recharge(player: Player, ts_ms: int, bits: int, form: Form[T]) -> T:
    sources = _SOURCES[player.mission][player.side]
    source = sources[(bits >> 16 & 0xFFFF) % len(sources)]
    gain = min(source.energy, game.BATTERY - player.energy)
    player.energy += gain
    player.recharges += 1
    karma = game.KARMA_DRAIN if source.name == game.DRAIN else 0
    more = f'"gain":{gain}'
    return _book(player, ts_ms, bits, form, "recharge", more, karma=karma, source=source.name)


def _choose(player: Player, ts_ms: int, bits: int, form: Form[T]) -> T:
    choice = _CHOICES[player.mission]
    loyal = bits & 0xFFFF < _LOYAL_ODDS[player.persona]
    side = player.side if loyal else -player.side
    player.choice_at = -1
    chosen = choice.good if side == GOOD else choice.evil
    more = f'"choice":"{choice.name}","chosen":"{chosen}","side":"{_SIDE_NAME[side]}"'
    return _book(player, ts_ms, bits, form, "moral_choice", more, karma=side * choice.karma)


def _complete(player: Player, ts_ms: int, bits: int, form: Form[T]) -> T:
    mission = game.MISSIONS[player.mission]
    more = f'"kind":"{mission.kind}","kills":{player.kills},"recharges":{player.recharges}'
    karma = player.side * game.KARMA_SIDE_MISSION if mission.kind == "side" else 0
    done = _book(player, ts_ms, bits, form, "mission_complete", more, xp=mission.xp, karma=karma)
    player.goal = 0
    player.mission += 1
    if player.mission == len(game.MISSIONS):  # the city is saved, or lost: once more from the start
        player.mission = 0
        player.playthrough += 1
        player.abilities = {}
        player.wish = ""
    if not player.wish:  # there was nothing to wish for; a mission later there may be
        player.price = 0
    return done


def _begin_mission(player: Player) -> None:
    mission = game.MISSIONS[player.mission]
    bits = _draw(player)
    player.kills = player.recharges = 0
    player.goal = mission.kills * (85 + bits % 31) // 100
    player.choice_at = player.goal // 2 if player.mission in _CHOICES else -1
    if player.persona == "wavering":
        far = player.karma * player.side >= PLANTED.far_karma
        pct = PLANTED.switch_far_pct if far else PLANTED.switch_pct
        if bits >> 48 < _odds(pct):
            player.side = -player.side


def _upgrade(player: Player, ts_ms: int, bits: int, form: Form[T]) -> T | None:
    """Buy what is wished for; None where the wish had to change and costs more than there is."""
    rank = RANK_BY_KARMA[player.karma]
    level = player.abilities.get(player.wish, 0)
    if not player.wish or rank not in _ABILITY[player.wish].levels[level].ranks:
        _make_wish(player)
        if player.xp < player.price:
            return None
        level = player.abilities.get(player.wish, 0)
    name, price = player.wish, player.price
    player.abilities[name] = level + 1
    player.wish, player.price = "", 0
    more = f'"ability":"{name}","level":{level + 1},"price":{price}'
    return _book(player, ts_ms, bits, form, "ability_upgrade", more, xp=-price)


def _make_wish(player: Player) -> None:
    """Set the heart on a next level that is on offer to this rank, if there is one."""
    rank = RANK_BY_KARMA[player.karma]
    offers: list[tuple[str, int]] = []
    for ability in game.ABILITIES:
        level = player.abilities.get(ability.name, 0)
        if (
            player.mission >= ability.opens_after
            and level < len(ability.levels)
            and rank in ability.levels[level].ranks
        ):
            offers.append((ability.name, ability.levels[level].price))
    if offers:
        player.wish, player.price = offers[_draw(player) % len(offers)]
    else:
        player.wish, player.price = "", INT32_MAX + 1


# --- history: the players plan their own time


def history(players: list[Player], until_ms: int) -> Iterator[tuple[Player, Event]]:
    """Every player's events before until_ms, in the order of time; each is yielded with its player.

    The player is then already in the state after the event: stop anywhere, store the players, load
    them, and a new call gives exactly what was left.
    """
    return _history(players, until_ms, step)


def written_history(players: list[Player], until_ms: int) -> Iterator[tuple[Player, bytes]]:
    """``history``, each event written down as it goes onto the stream."""
    return _history(players, until_ms, write)


def _history(
    players: list[Player], until_ms: int, act: Callable[[Player, int], T]
) -> Iterator[tuple[Player, T]]:
    here = [player for player in players if not player.gone]
    for player in here:  # one that has played live since goes on from there
        player.next_ms = max(player.next_ms, player.last_ms + 1)
    due = [(player.next_ms, player.name, player) for player in here if player.next_ms < until_ms]
    heapq.heapify(due)
    while due:
        player = due[0][2]
        done = act(player, player.next_ms)
        _plan_next(player)
        if player.gone or player.next_ms >= until_ms:
            heapq.heappop(due)
        else:
            heapq.heapreplace(due, (player.next_ms, player.name, player))
        yield player, done


def advance(player: Player) -> Event:
    """The event due at next_ms. Plans the next one, or sets gone: this player is never seen again."""
    event = step(player, player.next_ms)
    _plan_next(player)
    return event


def _plan_next(player: Player) -> None:
    bits = _draw(player)
    if player.mission == _SPIKE and _gives_up(player, bits):
        player.gone = player.gave_up = True
        return
    low, high = PLANTED.event_gap_ms
    next_ms = player.last_ms + low + bits % (high - low)
    if next_ms < player.stop_ms:
        player.next_ms = next_ms
    else:
        _plan_return(player)


def _gives_up(player: Player, bits: int) -> bool:
    """Quitters leave somewhere in the spike, once in it, and never see its end."""
    return (
        player.persona == "quitter"
        and player.goal > 0
        and (bits >> 48 < _QUIT_ODDS or player.kills >= player.goal)
    )


def _plan_return(player: Player) -> None:
    """The next session: later today, or on the next day drawn from the retention curve."""
    if player.sessions_left:
        player.sessions_left -= 1
        low, high = PLANTED.session_gap_min
        start_ms = player.stop_ms + (low + _draw(player) % (high - low)) * MINUTE_MS
        if start_ms // DAY_MS == player.last_ms // DAY_MS:
            _plan_session(player, start_ms)
            return
    today = (player.last_ms - player.day0_ms) // DAY_MS
    day = today + 1 if player.daily else _draw_day(player, today)
    if day is None:
        player.gone = True
        return
    _plan_day(player, player.day0_ms + day * DAY_MS)


def _draw_day(player: Player, today: int) -> int | None:
    """The next active day. Each is drawn by itself, so that the planted curve holds exactly."""
    character = PLANTED.personas[player.persona]
    scale = character.day1_pct * (1 + character.stretch_days)
    for day in range(today + 1, LAST_DAY + 1):
        # active_on(), multiplied out: floats have no say in what happens
        if (_draw(player) >> 32) * 100 * (day + character.stretch_days) < scale << 32:
            return day
    return None


def _plan_day(player: Player, midnight_ms: int) -> None:
    """The first session of a day, and how many follow."""
    bits = _draw(player)
    hours = PLANTED.first_hour_utc
    counts = PLANTED.sessions_a_day
    player.sessions_left = counts[(bits >> 48) % len(counts)] - 1
    hour = hours[(bits >> 32 & 0xFFFF) % len(hours)]
    _plan_session(player, midnight_ms + hour * HOUR_MS + (bits & 0xFFFF_FFFF) % HOUR_MS)


def _plan_session(player: Player, start_ms: int) -> None:
    """One session. It ends before midnight UTC, so that it belongs to one day."""
    bits = _draw(player)
    minutes = PLANTED.session_minutes
    length_ms = minutes[(bits >> 32) % len(minutes)] * MINUTE_MS + bits % MINUTE_MS
    player.next_ms = start_ms
    player.stop_ms = min(start_ms + length_ms, (start_ms // DAY_MS + 1) * DAY_MS)


# --- the population


def population(seed: int, size: int, start_ms: int, days: int) -> list[Player]:
    """Cole MacGrath and size - 1 others, each arriving within the days from start_ms on.

    A player depends on the seed and its name alone, not on the size. Without days everybody
    is fresh and due at start_ms.
    """
    return [_arrive(seed, number, start_ms, days) for number in range(size)]


def _arrive(seed: int, number: int, start_ms: int, days: int) -> Player:
    name = player_name(number)
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    player = Player(
        name=name,
        persona="wavering",
        rng=int.from_bytes(digest[:8]),
        next_ms=start_ms,
        day0_ms=start_ms // DAY_MS * DAY_MS,
        stop_ms=0,
        daily=number == 0,
    )
    bits = _draw(player)
    if not player.daily:
        player.persona = _PERSONAS[bits % len(_PERSONAS)]
        # The earlier of two days: more players come early, so their return can be seen.
        player.day0_ms += (
            min((bits >> 16 & 0xFFFF), (bits >> 32 & 0xFFFF)) * days // 65_536 * DAY_MS
        )
    if player.persona == "villain" or (player.persona != "hero" and bits >> 63):
        player.side = EVIL
    if days:
        _plan_first_day(player, start_ms)
    else:
        _plan_session(player, start_ms)
    return player


def _plan_first_day(player: Player, start_ms: int) -> None:
    """Day 0, of which only the part from start_ms on counts."""
    _plan_day(player, player.day0_ms)
    if player.next_ms < start_ms:
        left_ms = player.day0_ms + DAY_MS - start_ms
        _plan_session(player, start_ms + _draw(player) % left_ms)


_PERSONAS: Final = _wheel((name, c.share_pct) for name, c in PLANTED.personas.items())

_FIRST: Final = (
    "Arc", "Ash", "Blue", "Bolt", "Brick", "Cold", "Dark", "Dusty", "Echo", "Ember", "Fuse", "Ghost",
    "Grid", "Harbor", "Iron", "Jolt", "Lucky", "Mad", "Metro", "Neon", "Night", "Ohm", "Pulse",
    "Quick", "Rail", "Rogue", "Silent", "Static", "Storm", "Turbo", "Volt", "Wild",
)  # fmt: skip
_SECOND: Final = (
    "Badger", "Bandit", "Captain", "Cat", "Comet", "Courier", "Crow", "Diver", "Falcon", "Fox",
    "Hawk", "Hornet", "Jackal", "Jester", "Kid", "Lynx", "Moth", "Nomad", "Otter", "Owl", "Pilot",
    "Rabbit", "Raven", "Rider", "Runner", "Saint", "Shadow", "Spark", "Tiger", "Viper", "Wolf", "Wren",
)  # fmt: skip


def player_name(number: int) -> str:
    """The name of the player of that number: Cole is 0, the others have handles, never one twice."""
    if number == 0:
        return COLE
    turn, place = divmod(number, len(_FIRST) * len(_SECOND))
    # An odd factor reaches every one of the 1024 pairs before the first comes again.
    first, second = divmod(place * 397 % (len(_FIRST) * len(_SECOND)), len(_SECOND))
    return f"{_FIRST[first]}{_SECOND[second]}{turn + 1 if turn else ''}"
