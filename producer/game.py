"""The facts of inFAMOUS (2009) that the simulator plays by. Nothing flows in; frozen tables flow out.

Sourced:

- districts, gangs and their order: StrategyWiki and Fandom;
- XP of a gang's foot soldier (easy and normal difficulty), of story and side missions, the range for
  elites: Fandom, Experience_Points;
- prices of Electric Drain: Fandom, Electric_Drain; the first two of Lightning Bolt: Fandom,
  Lightning_Bolt; powers and the order in which the transformers open them: StrategyWiki, InFamous/Powers;
- good-only Overload Burst, evil-only Arc Lightning; a lost rank locks its powers: Engadget, Fandom;
- what holds energy, and that draining a person is evil: Fandom;
- story missions: the walkthrough at gamesradar.com/cheats/17654, Fandom (Alden_Strikes,
  Alden_in_Chains) and WhatCulture (Anything for Trish), abridged to eight a district;
- the choices about the food drop and the bridge guards: Fandom, First_Glimpse and The_Escape.

Plain names of our own: "Beneath the Warren", all missions of the Historic District, every side mission,
the other choices, and the elites but for the Golem.

Invented, because the game publishes no numbers: every amount of karma, of energy, of kills in a
mission, the weights, each elite's place within the range of XP, and the remaining prices.

Every name is plain ASCII without quotes or backslashes, so that it can stand in JSON as it is.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from pipeline.event import RANK_BY_KARMA, Rank

GOOD: Final = 1
EVIL: Final = -1

BATTERY: Final = 100  # a full one

XP_STORY_MISSION: Final = 500
XP_SIDE_MISSION: Final = 100

KARMA_CIVILIAN: Final = -2  # killing one
KARMA_DRAIN: Final = -2  # recharging from a person
KARMA_FINISHER: Final = 1  # capturing an enemy alive; draining one counts the other way
KARMA_SIDE_MISSION: Final = 3  # the good way of doing it; the evil way counts the other way


class Enemy(msgspec.Struct, frozen=True):
    """Who is fought, what the kill is worth, how often it is met."""

    name: str
    xp: int
    weight: int


class Source(msgspec.Struct, frozen=True):
    """What energy is drawn from, how much it gives, how often the good and the evil turn to it."""

    name: str
    energy: int
    good_weight: int
    evil_weight: int


class Choice(msgspec.Struct, frozen=True):
    """A moral choice: its two ways out, and the karma that either moves."""

    name: str
    good: str
    evil: str
    karma: int


class Mission(msgspec.Struct, frozen=True):
    """A step of the way; ``kills`` is what it takes on average."""

    name: str
    district: str
    kind: Literal["story", "side"]
    kills: int
    choice: Choice | None = None

    @property
    def xp(self) -> int:
        """What finishing it is worth."""
        return XP_STORY_MISSION if self.kind == "story" else XP_SIDE_MISSION


class District(msgspec.Struct, frozen=True):
    """A third of Empire City: who holds it and what gives energy there."""

    name: str
    enemies: tuple[Enemy, ...]
    sources: tuple[Source, ...]


class Level(msgspec.Struct, frozen=True):
    """One upgrade: its price in XP, and the ranks that may buy it."""

    price: int
    ranks: frozenset[Rank]


class Ability(msgspec.Struct, frozen=True):
    """A power. ``opens_after`` missions of a playthrough its upgrades are on offer."""

    name: str
    opens_after: int
    levels: tuple[Level, ...]


class Attack(msgspec.Struct, frozen=True):
    """A way to kill, the energy it costs, how often it is chosen.

    ``innate`` ones need no upgrade; the others are there from level 1 of the ability of that name.
    """

    name: str
    energy: int
    weight: int
    innate: bool = False


# --- districts, in the order they are played

_LIGHT: Final = Source("street_light", 40, good_weight=9, evil_weight=6)
_CAR: Final = Source("car", 20, good_weight=5, evil_weight=5)
_PHONE: Final = Source("phone", 25, good_weight=3, evil_weight=2)
_TV: Final = Source("tv", 25, good_weight=3, evil_weight=2)
_EQUIPMENT: Final = Source("overcharged_equipment", 100, good_weight=3, evil_weight=2)
# Even a hero slips once in a while: one recharge in forty or so.
_PERSON: Final = Source("person", 30, good_weight=1, evil_weight=8)

DRAIN: Final = _PERSON.name

DISTRICTS: Final = (
    District(
        "Neon",
        (Enemy("Reaper", 5, 14), Enemy("Reaper Conduit", 17, 1)),
        (_LIGHT, _LIGHT, _CAR, _PHONE, _TV, _PERSON),
    ),
    District(
        "Warren",
        (Enemy("Dust Man", 10, 15), Enemy("Dust Man Conduit", 30, 2), Enemy("Golem", 60, 1)),
        (_LIGHT, _CAR, _CAR, _TV, _EQUIPMENT, _PERSON),
    ),
    District(
        "Historic",
        (Enemy("First Son", 15, 15), Enemy("First Son Conduit", 40, 2), Enemy("Sentry", 75, 1)),
        (_LIGHT, _LIGHT, _CAR, _PHONE, _TV, _EQUIPMENT, _PERSON),
    ),
)

CIVILIANS: Final = ("pedestrian", "protester", "street vendor", "street medic", "police officer")

# --- missions, in the order they are played

# Three times the kills of the missions around it: the wall at which some players give up.
SPIKE: Final = "High Ground"


def _neon(name: str, kills: int, choice: Choice | None = None) -> Mission:
    return Mission(name, "Neon", "story", kills, choice)


def _warren(name: str, kills: int, choice: Choice | None = None) -> Mission:
    return Mission(name, "Warren", "story", kills, choice)


def _historic(name: str, kills: int, choice: Choice | None = None) -> Mission:
    return Mission(name, "Historic", "story", kills, choice)


def _side(name: str, district: str, kills: int = 24) -> Mission:
    return Mission(name, district, "side", kills)


MISSIONS: Final = (
    _neon("First Glimpse", 36, Choice("the food drop", "share it", "hoard it", 15)),
    _neon("The Escape", 40, Choice("the bridge guards", "fight them", "start a riot", 12)),
    _neon("Blood Trail", 42),
    _side("Rooftop Patrol", "Neon"),
    _neon("Medical Emergency", 44, Choice("the stolen medicine", "return it", "keep it", 12)),
    _neon(SPIKE, 132, Choice("the hostages", "free them first", "strike through them", 12)),
    _neon("Mind Games", 44, Choice("the tar valve", "turn it yourself", "send a passer-by", 14)),
    _side("Courier Tail", "Neon"),
    _neon("The Rescue", 46),
    _side("Lights Back On", "Neon"),
    _neon("Nemesis Revealed", 48, Choice("the beaten Reapers", "hand them over", "drain them", 12)),
    _side("Clear the Block", "Neon"),
    _warren("An Old Friend", 58),
    _warren("Zeke's Request", 60, Choice("the posters", "defend your name", "wear the fear", 10)),
    _side("Scrap Run", "Warren"),
    _warren("Playing Hero", 62, Choice("the trapped workers", "pull them out", "move on", 12)),
    _warren("Standard Protocol", 62),
    _side("Shipyard Watch", "Warren"),
    _warren("Alden Strikes", 64, Choice("the gas valves", "shield the crowd", "let it spread", 15)),
    _warren("Anything for Trish", 66, Choice("the bus", "guard it", "use it as bait", 14)),
    _side("Hidden Package", "Warren"),
    _warren("Alden in Chains", 66, Choice("the prison guards", "cover them", "spend them", 12)),
    _warren("Beneath the Warren", 64),
    _side("Tower Cameras", "Warren"),
    _historic("Across the Bridge", 62),
    _historic("The Evacuation", 64, Choice("the last train", "load civilians", "take a car", 14)),
    _side("Satellite Dishes", "Historic"),
    _historic("Ground Zero Again", 64),
    _historic(
        "The Broadcast", 52, Choice("the Voice of Survival", "answer him", "silence him", 10)
    ),
    _side("Safe Streets", "Historic"),
    _historic("Six Doctors", 68, Choice("Trish or the doctors", "the doctors", "Trish", 20)),
    _historic("The Pier", 68),
    _side("Bomb Disposal", "Historic"),
    _historic("The Ray Sphere", 70, Choice("the Ray Sphere", "destroy it", "use it", 25)),
    _historic("The Last Fight", 72),
    _side("Loose Ends", "Historic"),
)

# --- powers

_ANYONE: Final[frozenset[Rank]] = frozenset(RANK_BY_KARMA.values())
_GUARDIAN: Final[frozenset[Rank]] = frozenset({"Guardian", "Champion", "Hero"})
_CHAMPION: Final[frozenset[Rank]] = frozenset({"Champion", "Hero"})
_HERO: Final[frozenset[Rank]] = frozenset({"Hero"})
_THUG: Final[frozenset[Rank]] = frozenset({"Thug", "Outlaw", "Infamous"})
_OUTLAW: Final[frozenset[Rank]] = frozenset({"Outlaw", "Infamous"})
_INFAMOUS: Final[frozenset[Rank]] = frozenset({"Infamous"})


def _neutral(first: int, second: int, third: int) -> tuple[Level, ...]:
    """Open to anyone, but for the last level: that takes a Hero or an Infamous."""
    return Level(first, _ANYONE), Level(second, _ANYONE), Level(third, _HERO | _INFAMOUS)


def _karmic(first: int, second: int, third: int) -> tuple[Level, ...]:
    """Each level takes a rank, on either side."""
    return (
        Level(first, _GUARDIAN | _THUG),
        Level(second, _CHAMPION | _OUTLAW),
        Level(third, _HERO | _INFAMOUS),
    )


def _good(first: int, second: int, third: int) -> tuple[Level, ...]:
    return Level(first, _GUARDIAN), Level(second, _CHAMPION), Level(third, _HERO)


def _evil(first: int, second: int, third: int) -> tuple[Level, ...]:
    return Level(first, _THUG), Level(second, _OUTLAW), Level(third, _INFAMOUS)


ABILITIES: Final = (
    Ability("Lightning Bolt", 0, _karmic(400, 2900, 3600)),
    Ability("Shockwave", 0, _neutral(900, 1800, 3200)),
    Ability("Thunder Drop", 0, _neutral(800, 1700, 3000)),
    Ability("Electric Drain", 0, _neutral(800, 1400, 2000)),
    Ability("Overload Burst", 4, _good(1500, 2600, 3800)),
    Ability("Arc Lightning", 4, _evil(1500, 2600, 3800)),
    Ability("Shock Grenade", 7, _neutral(1400, 2400, 3600)),
    Ability("Induction Grind", 10, _neutral(1100, 2000, 3100)),
    Ability("Precision", 13, _neutral(1400, 2300, 3400)),
    Ability("Static Thrusters", 16, _neutral(1200, 2100, 3300)),
    Ability("Megawatt Hammer", 20, _neutral(1800, 3000, 4500)),
    Ability("Polarity Wall", 24, _neutral(1500, 2600, 3800)),
    Ability("Lightning Storm", 28, _neutral(2200, 3600, 5000)),
)

BOLT: Final = Attack("Lightning Bolt", 0, weight=9, innate=True)

ATTACKS: Final = (
    BOLT,
    Attack("Shockwave", 8, weight=4, innate=True),
    Attack("Thunder Drop", 10, weight=2, innate=True),
    Attack("Overload Burst", 9, weight=2),
    Attack("Arc Lightning", 9, weight=2),
    Attack("Shock Grenade", 10, weight=3),
    Attack("Megawatt Hammer", 14, weight=2),
    Attack("Lightning Storm", 22, weight=1),
)

# An enemy on the ground may be captured alive or drained: that is what moves karma in a fight.
FINISHERS: Final = {
    GOOD: Attack("Arc Restraint", 5, weight=1, innate=True),
    EVIL: Attack("Bio Leech", 5, weight=1, innate=True),
}
