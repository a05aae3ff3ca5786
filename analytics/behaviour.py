"""Behaviour: when and how long people play, and in which styles: a database flows in, frames and findings
flow out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sqlalchemy import Engine

from analytics import words
from analytics.data import query
from analytics.period import Period

Array: TypeAlias = npt.NDArray[Any]

# Who did less has shown no style yet: it takes a session or two.
FEWEST_EVENTS: Final = 200
# More players than that tell no more, and take longer.
MOST_PLAYERS: Final = 5000
# So many styles are looked for; and players each of them must have, on average.
STYLES: Final = range(2, 9)
_PLAYERS_A_STYLE: Final = 10
FEWEST_PLAYERS: Final = STYLES[0] * _PLAYERS_A_STYLE
# Of more players, silhouettes are estimated from so many.
_SILHOUETTES: Final = 2000
# So many standard deviations off and more are the same: nobody is a style alone.
_FAR: Final = 3.0
# What sets a style apart in its name: so many standard deviations off the mean of all.
_APART: Final = 0.4
# Kaufman and Rousseeuw, Finding Groups in Data (1990), table 4: below this there is no substantial structure.
WEAK: Final = 0.25

# Sessions that begin in the period, followed to the end of the next day, as daily_sessions follows them.
_SESSIONS: Final = """
with numbered as (
    select player, started_at, ended_at,
           count(*) filter (where not is_continued) over (partition by player order by started_at) as session
    from session_parts
    where hour >= :since and hour < :until + interval '24 hours'
), sessions as (
    select player, min(started_at) as started_at,
           cast(extract(epoch from max(ended_at) - min(started_at)) as float) / 60 as minutes
    from numbered
    where session > 0
    group by player, session
    having min(started_at) < :until
)
"""

_LENGTHS: Final = f"""
{_SESSIONS}
select cast(floor(minutes) as integer) as minutes, count(*) as sessions
from sessions
group by 1
order by 1
"""  # noqa: S608

_LENGTH: Final = f"""
{_SESSIONS}
select count(*) as sessions,
       avg(minutes) as mean,
       percentile_cont(0.5) within group (order by minutes) as median,
       percentile_cont(0.9) within group (order by minutes) as p90
from sessions
"""  # noqa: S608

_STARTS: Final = """
select cast(hour at time zone 'UTC' as date) as day,
       cast(extract(hour from hour at time zone 'UTC') as integer) as hour,
       count(*) as sessions
from session_parts
where hour >= :since and hour < :until and not is_continued
group by 1, 2
order by 1, 2
"""

_A_DAY: Final = """
select sessions, count(*) as player_days
from (
    select count(*) as sessions
    from session_parts
    where hour >= :since and hour < :until and not is_continued
    group by player, cast(hour at time zone 'UTC' as date)
) as days
group by sessions
order by sessions
"""

_DOINGS: Final = f"""
{_SESSIONS}, chosen as (
    select player, sum(events) as events,
           coalesce(sum(events) filter (where action in ('kill_enemy', 'kill_civilian')), 0) as kills,
           coalesce(sum(events) filter (where action = 'kill_civilian'), 0) as civilians
    from daily_rollups
    where day between :first and :last
    group by player
    having sum(events) >= :fewest
    order by md5(player)
    limit :most
), played as (
    select player, count(*) as days, :last - greatest(min(first_day), :first) + 1 as days_known
    from chosen join player_days using (player)
    where day between :first and :last
    group by player
), chose as (
    select player, count(*) as choices, count(*) filter (where side = 'good') as good,
           count(*) filter (where side <> side_before) as switches, count(side_before) as compared
    from (
        select player, side, lag(side) over (partition by player order by ts, id) as side_before
        from chosen join moral_choices using (player)
        where hour >= :since and hour < :until and side is not null
    ) as made
    group by player
), recharged as (
    -- Who was drained is in no rollup: of days whose raw events are gone, nothing is known.
    select player, count(*) as recharges, count(*) filter (where energy_source = 'person') as drains
    from chosen join game_events using (player)
    where ts >= :since and ts < :until and action = 'recharge' and energy_source is not null
    group by player
), sat as (
    select player, count(*) as sessions, sum(minutes) as minutes
    from chosen join sessions using (player)
    group by player
)
select player, cast(events as bigint) as events, cast(kills as bigint) as kills,
       cast(civilians as bigint) as civilians, days, days_known,
       coalesce(choices, 0) as choices, coalesce(good, 0) as good,
       coalesce(compared, 0) as compared, coalesce(switches, 0) as switches,
       coalesce(recharges, 0) as recharges, coalesce(drains, 0) as drains,
       coalesce(sessions, 0) as sessions, coalesce(minutes, 0) as minutes
from chosen
join played using (player)
left join chose using (player)
left join recharged using (player)
left join sat using (player)
order by md5(player)
"""  # noqa: S608

_COUNTED: Final = """
select count(*) as players, count(*) filter (where events >= :fewest) as enough
from (
    select sum(events) as events from player_days where day between :first and :last group by player
) as played
"""


# --- sessions


def lengths(engine: Engine, period: Period) -> pd.DataFrame:
    """Sessions that began in the period by their length in whole ``minutes``, rounded down: ``sessions``.

    A session goes from a first event to the last before a pause of over 30 minutes. It counts whole, up to
    the end of the day after the period.
    """
    return query(engine, _LENGTHS, since=period.since, until=period.until)


@dataclass(frozen=True)
class Length:
    """How many sessions, and how long they are, in minutes: NaN where there is none."""

    sessions: int
    mean: float
    median: float
    p90: float

    @property
    def finding(self) -> str:
        """In a sentence."""
        if not self.sessions:
            return "Nobody played in these days"
        if self.sessions == 1:
            is_moment = self.median * 60 < 1
            return f"The only session lasted {'no second' if is_moment else _minutes(self.median)}"
        return (
            f"Half of all sessions last up to {_minutes(self.median)},"
            f" nine in ten up to {_minutes(self.p90)}"
        )


def length(engine: Engine, period: Period) -> Length:
    """The same sessions in numbers, exact to the millisecond."""
    row = query(engine, _LENGTH, since=period.since, until=period.until).iloc[0]
    return Length(int(row["sessions"]), float(row["mean"]), float(row["median"]), float(row["p90"]))


def sessions_a_day(engine: Engine, period: Period) -> pd.DataFrame:
    """On how many ``player_days`` (a player, on a day on which it began any) how many ``sessions`` began."""
    return query(engine, _A_DAY, since=period.since, until=period.until)


def starts(engine: Engine, period: Period) -> pd.DataFrame:
    """How many ``sessions`` began in each UTC ``hour``, 0 to 23, of each ``day``; where any did."""
    return query(engine, _STARTS, since=period.since, until=period.until)


def week(starts: pd.DataFrame) -> pd.DataFrame:
    """Sessions that begin in an hour of the week, of :func:`starts`: ``weekday``, 0 for Monday, by ``hour``
    (columns); the mean over all days with any session. Without such a weekday, NaN.
    """
    weekday = starts["day"].dt.day_of_week
    days = starts.groupby(weekday)["day"].nunique()
    counts = starts.groupby([weekday, "hour"])["sessions"].sum().unstack(fill_value=0)
    mean = counts.reindex(index=range(7), columns=range(24)).div(days, axis=0)
    return mean.mask(mean.isna() & mean.index.isin(days.index)[:, None], 0.0).rename_axis("weekday")


def busiest_hours(starts: pd.DataFrame) -> tuple[int, int]:
    """The fewest UTC hours in a row in which half of all sessions begin: the first and the last of them."""
    by_hour = starts.groupby("hour")["sessions"].sum().reindex(range(24), fill_value=0).to_numpy()
    half = by_hour.sum() / 2
    for span in range(1, 25):
        sums = [sum(by_hour[(first + hour) % 24] for hour in range(span)) for first in range(24)]
        if max(sums) >= half:
            first = int(np.argmax(sums))
            return first, (first + span - 1) % 24
    raise AssertionError  # all 24 hours hold all sessions


def sessions_a_day_finding(a_day: pd.DataFrame) -> str:
    """How often people play on a day, in a sentence."""
    days = a_day["player_days"].sum()
    if not days:
        return "Nobody played in these days"
    mean = (a_day["sessions"] * a_day["player_days"]).sum() / days
    once = a_day.loc[a_day["sessions"] == 1, "player_days"].sum() / days
    return (
        f"Who plays on a day does so {words.number(mean, 2)} times; {words.percent(once)} play once"
    )


def starts_finding(starts: pd.DataFrame) -> str:
    """When people play, in a sentence."""
    if starts.empty:
        return "Nobody played in these days"
    first, last = busiest_hours(starts)
    return f"Half of all sessions begin from {first:02d}:00 to {last:02d}:59 UTC"


def _minutes(minutes: float) -> str:
    return words.lasting(60 * minutes)


# --- styles of play


@dataclass(frozen=True)
class Feature:
    """What is measured of a player: so many ``part`` of so many ``whole``, times ``scale``; how it is
    called, how it is written, and what a style is called that has much or little of it.
    """

    key: str
    label: str
    part: str
    whole: str
    scale: float
    digits: int
    unit: str
    high: str
    low: str


FEATURES: Final = (
    Feature("good", "good\nchoices", "good", "choices", 100, 0, "%", "choose good", "choose evil"),
    Feature(
        "switches", "choices\nthat switch\nsides", "switches", "compared", 100, 0, "%",
        "switch sides", "keep to a side",
    ),
    Feature(
        "civilians", "civilians\nof 100\nkilled", "civilians", "kills", 100, 1, "",
        "kill civilians", "spare civilians",
    ),
    Feature(
        "drains", "recharges\nthat drain\na person", "drains", "recharges", 100, 0, "%",
        "drain people", "drain few people",
    ),
    Feature(
        "minutes", "length of\na session", "minutes", "sessions", 1, 0, " min",
        "play long", "play briefly",
    ),
    Feature(
        "sessions", "sessions\non a day\nplayed", "sessions", "days", 1, 1, "",
        "play many times a day", "play once a day",
    ),
    Feature("days", "days\nplayed", "days", "days_known", 100, 0, "%", "come often", "come seldom"),
)  # fmt: skip


@dataclass(frozen=True)
class Chosen:
    """Of how many ``players`` how many have done ``enough``, and how many of these are ``looked_at``."""

    players: int
    enough: int
    looked_at: int

    @property
    def finding(self) -> str:
        """In a sentence."""
        told = f"{words.counted(self.players, 'player')} did anything in these days"
        few = self.players - self.enough
        if few:
            told += (
                f"; {few:,} of them did it fewer than {FEWEST_EVENTS} times, have shown no style yet"
                " and are left out"
            )
        if self.looked_at < self.enough:
            told += f"; of the others {self.looked_at:,} were drawn by lot"
        return told


def doings(engine: Engine, period: Period) -> tuple[pd.DataFrame, Chosen]:
    """What each player did in the period who did anything FEWEST_EVENTS times, MOST_PLAYERS at most, drawn by
    their names' MD5; and how many that are of all.

    Columns: ``player``, ``events``, ``kills`` of enemies and civilians, ``civilians``, ``days`` played, of
    ``days_known`` since the first; moral ``choices`` of a known side, ``good`` ones, those ``compared`` with
    one before, ``switches``; ``recharges`` whose raw events are still there, ``drains`` of persons among
    them; ``sessions`` and all their ``minutes``.
    """
    days = {"first": period.first, "last": period.last}
    found = query(
        engine, _DOINGS, **days, since=period.since, until=period.until, fewest=FEWEST_EVENTS,
        most=MOST_PLAYERS,
    )  # fmt: skip
    counted = query(engine, _COUNTED, **days, fewest=FEWEST_EVENTS).iloc[0]
    return found, Chosen(int(counted["players"]), int(counted["enough"]), len(found))


def measured(doings: pd.DataFrame) -> pd.DataFrame:
    """The FEATURES of each player, of :func:`doings`: a column for each that differs among players, by its
    key; NaN where a player had no occasion.
    """
    columns = {
        one.key: one.scale * doings[one.part] / doings[one.whole].where(doings[one.whole] > 0)
        for one in FEATURES
    }
    frame = pd.DataFrame(columns, dtype="float64").set_axis(doings["player"].astype("str"), axis=0)
    return frame.loc[:, frame.std(ddof=0) > 0]


@dataclass(frozen=True)
class Styles:
    """Groups of players who play alike, the largest first.

    ``players``: by name the ``style`` (0, 1, ...), and the place ``x``, ``y`` on a map on which those who
    play alike lie near each other. ``means``: of each style and feature, in its unit. ``apart``: the same in
    standard deviations off the mean of all. ``names``, ``sizes``: of each style. ``silhouettes``: by number
    of styles. ``axes``: of each direction of the map, the share of all differences that it shows, and how
    much each feature has to do with it.
    """

    players: pd.DataFrame
    means: pd.DataFrame
    apart: pd.DataFrame
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    silhouettes: pd.Series[float]
    axes: tuple[tuple[float, dict[str, float]], ...]

    @property
    def silhouette(self) -> float:
        """That of the number chosen: from -1 over 0, where there are no groups, to 1."""
        return float(self.silhouettes.max())

    @property
    def finding(self) -> str:
        """In a sentence."""
        parts = [
            f"{words.percent(size / len(self.players))} {name}"
            for name, size in zip(self.names, self.sizes, strict=True)
        ]
        if self.silhouette < WEAK:
            return (
                f"Styles of play run into one another (silhouette {self.silhouette:.2f}): the"
                f" {len(parts)} groups are a help to the eye"
            )
        if len(parts) > 3:
            return f"Players fall into {len(parts)} styles; the most frequent: {parts[0]}"
        return f"Players fall into {len(parts)} styles: {'; '.join(parts)}"


def styles(measured: pd.DataFrame) -> Styles | None:
    """Groups of players of :func:`measured`; None where there are too few players, or too few differences.

    Features are standardised and cut off at three standard deviations; who had no occasion counts as the
    mean. k-means makes the groups, for each number of STYLES; the mean silhouette (Rousseeuw 1987) chooses
    among them; principal components make the map. Seeded: the same players give the same styles.
    """
    spread = (measured - measured.mean()) / measured.std(ddof=0)
    standard = spread.clip(-_FAR, _FAR).fillna(0.0).to_numpy()
    # As many groups as there are players of different ways, at most.
    most = min(len(standard) // _PLAYERS_A_STYLE, len(np.unique(standard.round(9), axis=0)) - 1)
    numbers = [number for number in STYLES if number <= most]
    if not numbers or standard.shape[1] < 2:
        return None
    labels = {number: _grouped(standard, number) for number in numbers}
    silhouettes = pd.Series(
        {
            number: float(
                silhouette_score(
                    standard, label, sample_size=min(_SILHOUETTES, len(label)), random_state=0
                )
            )
            for number, label in labels.items()
        }
    )
    style = labels[max(numbers, key=lambda number: silhouettes[number])]
    pca = PCA(n_components=2, svd_solver="full").fit(standard)
    place = pca.transform(standard)
    apart = pd.DataFrame(standard, columns=measured.columns).groupby(style).mean()
    return Styles(
        pd.DataFrame({"style": style, "x": place[:, 0], "y": place[:, 1]}, index=measured.index),
        measured.groupby(style).mean(),
        apart,
        tuple(_name(row) for _, row in apart.iterrows()),
        tuple(int(size) for size in np.bincount(style)),
        silhouettes,
        tuple(
            (float(share), dict(zip(measured.columns, map(float, way), strict=True)))
            for share, way in zip(pca.explained_variance_ratio_, pca.components_, strict=True)
        ),
    )


def _grouped(standard: Array, number: int) -> Array:
    """The group of each player: 0 is the largest, and of groups as large that of the first player."""
    found = KMeans(number, n_init=10, random_state=0).fit_predict(standard)
    names, first, sizes = np.unique(found, return_index=True, return_counts=True)
    order = names[np.lexsort((first, -sizes))]
    place: Array = np.argsort(order)[found]
    return place


def _name(apart: pd.Series[float]) -> str:
    """What sets a style apart most: two features at most."""
    most = apart.abs().sort_values(ascending=False, kind="stable")
    told = [_way(str(key), apart[key]) for key in most.index[:2] if most[key] >= _APART]
    return " and ".join(told) or "like everybody"


def _way(key: str, value: float) -> str:
    """Much or little of a feature, in words."""
    feature = next(one for one in FEATURES if one.key == key)
    return feature.high if value > 0 else feature.low


def way_of(axis: dict[str, float], sign: int) -> str:
    """What lies in a direction of the map of :class:`Styles`, in words."""
    most = sorted(axis, key=lambda key: -abs(axis[key]))[:2]
    return ", ".join(_way(key, sign * axis[key]) for key in most)


@dataclass(frozen=True)
class Agreement:
    """How styles and groups known from elsewhere go together: a ``table`` of players, a row a style, a column
    a known group; and the adjusted Rand index ``rand`` (Hubert and Arabie 1985): 1 where both are the same,
    0 where they agree as by chance.
    """

    table: pd.DataFrame
    rand: float

    @property
    def finding(self) -> str:
        """In a sentence."""
        how = (
            "no more than by chance" if self.rand < 0.1
            else "in part" if self.rand < 0.9
            else "almost entirely"
        )  # fmt: skip
        return f"Styles and known groups agree {how} (adjusted Rand index {self.rand:.2f})"


def agreement(styles: Styles, known: dict[str, str]) -> Agreement:
    """The styles of those players whose group is ``known``, beside it. ValueError where nobody's is."""
    of = styles.players.assign(known=styles.players.index.map(known)).dropna()
    if of.empty:
        raise ValueError("Nobody's group is known.")
    table = pd.crosstab(of["style"], of["known"]).reindex(range(len(styles.names)), fill_value=0)
    return Agreement(table, float(adjusted_rand_score(of["known"], of["style"])))
