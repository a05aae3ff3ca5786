"""The pictures: results flow in; horizontal bars of the hot path, beside its limit and its peers, flow out.

And of consumers over streams, where those were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import beside, scaling
from bench.case import Result
from producer.outbox import ARRAY_EVENTS

_LIMIT, _OURS, _PEER = "the limit", "this pipeline", "others, the same work"
_COLOURS: Final = {_LIMIT: "#9aa3ad", _OURS: "#1668b8", _PEER: "#d9a05b"}
# On a ground of its own, so that no line of the grid runs through it.
_NUMBER: Final[dict[str, Any]] = {
    "va": "center",
    "fontsize": 10,
    "bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1},
}
_SHOWN: Final = {
    "raw COPY": ("Postgres alone: binary COPY", _LIMIT),
    f"two consumers, {ARRAY_EVENTS} events an entry": (
        f"Infamous, two consumers, {ARRAY_EVENTS} events an entry",
        _OURS,
    ),
    f"one consumer, {ARRAY_EVENTS} events an entry": (
        f"Infamous, one consumer, {ARRAY_EVENTS} events an entry",
        _OURS,
    ),
    "two consumers": ("Infamous, two consumers", _OURS),
    "one consumer": ("Infamous, one consumer", _OURS),
}


def bars(results: Sequence[Result]) -> list[tuple[str, str, float]]:
    """Label, kind and rate of each bar, the fastest first. Pure."""
    shown = [
        (*_SHOWN[result.name], result.median)
        for result in results
        if result.section == "hot path" and result.name in _SHOWN
    ]
    shown += [
        (result.name, _PEER, result.median)
        for result in results
        if result.section == beside.SECTION and result.name != beside.OURS
    ]
    return sorted(shown, key=lambda bar: -bar[2])


def draw(results: Sequence[Result], machine: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """Write a PNG and an SVG of each picture of which there are results."""
    return (*_draw_bars(results, machine, folder), *_draw_scaling(results, machine, folder))


def rates(results: Sequence[Result]) -> list[tuple[str, str, float]]:
    """Consumers, streams and the rate of each pair that was measured. Pure."""
    by_name = {
        result.name: result.median for result in results if result.section == scaling.SECTION
    }
    found: list[tuple[str, str, float]] = []
    for streams in scaling.STREAMS:
        for consumers in scaling.CONSUMERS:
            name = scaling.name(consumers, streams)
            if name in by_name:
                above, _, below = name.partition(", ")
                found.append((above, below, by_name[name]))
    return found


def _draw_scaling(
    results: Sequence[Result], machine: Mapping[str, Any], folder: Path
) -> tuple[Path, ...]:
    shown = rates(results)
    if not shown:
        return ()
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415
    import seaborn as sns  # noqa: PLC0415

    sns.set_theme(style="whitegrid", font="DejaVu Sans")
    figure, axes = plt.subplots(figsize=(9, 4.5))
    consumers, streams, rate = zip(*shown, strict=True)
    sns.barplot(x=consumers, y=rate, hue=streams, palette="Blues", ax=axes, width=0.75, linewidth=0)
    groups: Sequence[Any] = axes.containers
    for bars_of_one in groups:
        axes.bar_label(bars_of_one, fmt=lambda value: f"{value:,.0f}", fontsize=9, padding=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set(xlabel="", ylabel="events a second")
    axes.grid(axis="y", color="#e6e9ec")
    title = "Consumers over streams of a Redis Cluster, all on one machine"
    axes.set_title(title, loc="left", fontsize=14, weight="bold")
    # Below, where no bar is.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False)
    sns.despine(figure, left=True, bottom=True)
    figure.text(0.01, 0.01, _caption(machine), fontsize=8, color="#5c6670")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return _saved(figure, folder, "streams")


def _draw_bars(
    results: Sequence[Result], machine: Mapping[str, Any], folder: Path
) -> tuple[Path, ...]:
    shown = bars(results)
    if not shown:
        return ()
    # These take a second, and nothing else here needs them.
    import matplotlib as mpl  # noqa: PLC0415
    import matplotlib.ticker  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415
    import seaborn as sns  # noqa: PLC0415

    sns.set_theme(style="whitegrid", font="DejaVu Sans")
    figure, axes = plt.subplots(figsize=(9, 1.5 + 0.5 * len(shown)))
    sns.barplot(
        x=[rate for _, _, rate in shown],
        y=[label for label, _, _ in shown],
        hue=[kind for _, kind, _ in shown],
        palette=_COLOURS,
        dodge=False,
        ax=axes,
        width=0.65,
        linewidth=0,
    )
    fastest = shown[0][2]
    for place, (_, _, rate) in enumerate(shown):
        axes.text(rate + fastest * 0.01, place, f"{rate:,.0f}", **_NUMBER)
    axes.set(xlim=(0, fastest * 1.12), xlabel="events a second", ylabel="")
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(axis="x", color="#e6e9ec")
    axes.grid(axis="y", visible=False)
    axes.set_title("From Redis stream to rows of Postgres", loc="left", fontsize=14, weight="bold")
    axes.legend(loc="lower right", frameon=True, title=None)
    sns.despine(figure, left=True, bottom=True)
    figure.text(0.01, 0.01, _caption(machine), fontsize=8, color="#5c6670")
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return _saved(figure, folder, "latest")


def _saved(figure: Any, folder: Path, name: str) -> tuple[Path, ...]:
    import matplotlib.pyplot as plt  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{name}.{kind}" for kind in ("png", "svg"))
    for path in paths:
        figure.savefig(path, dpi=160)
    plt.close(figure)
    return paths


def _caption(machine: Mapping[str, Any]) -> str:
    parts = (
        f"{machine['cpu']}, {machine['cores']} cores",
        f"{machine['postgres']}, {machine['redis']}, Python {machine['python']}",
        f"commit {machine['commit']}" if machine["commit"] else "",
    )
    return "  ·  ".join(part for part in parts if part)
