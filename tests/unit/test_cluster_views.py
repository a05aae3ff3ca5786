"""What nodes say of their cluster: lines of CLUSTER NODES are read, and what is missing is named."""

from __future__ import annotations

from dataclasses import replace

from infamous.prove.cluster import Known, View, flaw, gap, known

MASTER = (
    "aa 127.0.0.1:7001@17001,host myself,master - 0 0 3 connected 0-8190 8192 [9->-bb] [8-<-bb]"
)
OTHER = "bb 127.0.0.1:7002@17002 master - 0 0 2 connected 8191 8193-16383"
FOLLOWER = "cc 127.0.0.1:7003@17003 slave aa 0 0 3 connected"
KNOWN = tuple(map(known, (MASTER, OTHER, FOLLOWER)))
VIEW = View(is_ok=True, is_linked=True, known=KNOWN)
ALL = {7001: VIEW, 7002: VIEW, 7003: VIEW}


def seen(view: View, number: int, **changes: object) -> View:
    """The view, with one of the nodes seen otherwise."""
    nodes = list(view.known)
    nodes[number] = replace(nodes[number], **changes)  # type: ignore[arg-type]
    return replace(view, known=tuple(nodes))


def test_a_line_is_read() -> None:
    """Slots alone, in ranges and on their way are told apart."""
    assert known(MASTER) == Known(
        port=7001,
        node_id="aa",
        flags=frozenset({"myself", "master"}),
        master_id="-",
        epoch=3,
        slots=frozenset({*range(8191), 8192}),
        open_slots=frozenset({8, 9}),
    )
    assert VIEW.itself is KNOWN[0]
    assert VIEW.owners[8192] == 7001
    assert VIEW.owners[8191] == 7002


def test_a_gap_is_named() -> None:
    """Every slot needs a master that lives, of whom no living node has another opinion."""
    assert gap(ALL) is None
    assert gap({7001: VIEW, 7002: VIEW}) is None
    assert (
        gap({7001: VIEW, 7003: VIEW})
        == "the node on port 7001 knows of slots without a living master"
    )
    assert gap({**ALL, 7002: None}) == "the node on port 7002 does not answer"
    down = replace(VIEW, is_ok=False)
    assert gap({**ALL, 7002: down}) == "the node on port 7002 says that the cluster is down"
    short = seen(VIEW, 1, slots=frozenset({8191}))
    assert (
        gap({**ALL, 7003: short}) == "the node on port 7003 knows of slots without a living master"
    )
    doubt = seen(VIEW, 0, flags=frozenset({"master", "fail?"}))
    assert gap({**ALL, 7003: doubt}) == "the node on port 7003 doubts that 7001 is there"
    stale = seen(seen(VIEW, 0, slots=KNOWN[1].slots), 1, slots=KNOWN[0].slots)
    assert gap({**ALL, 7003: stale}) == (
        "the node on port 7003 does not agree with the others on who has which slot"
    )


def test_a_flaw_is_named() -> None:
    """A cluster that serves every slot is whole only with its replicas."""
    assert flaw(ALL) is None
    assert flaw({7001: VIEW, 7002: VIEW}) == "the node on port 7001 does not know every other"
    cut = replace(VIEW, is_linked=False)
    assert flaw({**ALL, 7003: cut}) == "the replication of the node on port 7003 is not up"
    former = seen(VIEW, 2, master_id="bb")
    assert flaw({**ALL, 7003: former}) == "the nodes do not agree on who replicates whom"
