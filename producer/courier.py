"""The courier: parcels flow in, they go to Redis one after the other, and flow out once Redis has them.

While Redis is away it waits, with the parcel in its hands.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from pipeline import stream
from pipeline.patience import Observer, wait_for
from producer.outbox import Parcel, Sender


def deliver(outbox: Sender, parcel: Parcel, stop: threading.Event, observer: Observer) -> None:
    """See one parcel through. Raises Overtaken, and Stopped when asked to stop in an outage."""
    wait_for(
        "Redis",
        lambda: outbox.send(parcel),
        is_temporary=stream.is_temporary,
        stop=stop,
        observer=observer,
    )


def carry(
    outbox: Sender, parcels: Iterable[Parcel], stop: threading.Event, observer: Observer
) -> Iterator[Parcel]:
    """Deliver parcels and yield each; the next one is made while Redis is at the one before.

    Raises what ``deliver`` does: what was not yielded then is not known to have arrived. When asked to
    stop, it ends after the parcel that is on its way.
    """
    under_way: Parcel | None = None
    for parcel in parcels:
        if under_way is not None:
            deliver(outbox, under_way, stop, observer)
            yield under_way
            under_way = None
        if stop.is_set():
            return
        outbox.start(parcel)
        under_way = parcel
    if under_way is not None:
        deliver(outbox, under_way, stop, observer)
        yield under_way
