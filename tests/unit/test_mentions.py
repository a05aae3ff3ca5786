"""Mentions: what is a player's goes, what is another's stays, whatever the bytes look like."""

from __future__ import annotations

import json

import pytest

from jobs.mentions import Kept, Looked, Name, Said
from pipeline.entry import Entry, Form, array_of, split
from pipeline.stream import _entries
from tests.unit.samples import payload, without

ZEKE = Name("Zeke")


@pytest.mark.parametrize(
    "theirs",
    [
        payload(player="Zeke"),
        payload(player="Zeke").replace(b"Zeke", b"\\u005aeke"),
        payload(player="Zeke", rank="Boss", xp_delta="many"),
        b'{"player": "Zeke", "cut',
        b"\xff\xfe Zeke",
        b'["Zeke"]',
        without("player", details={"who": "Zeke"}),
        payload(player=["Zeke"]),
    ],
)
def test_what_is_theirs_is_known(theirs: bytes) -> None:
    """By what it says where it can be read, however JSON writes the name, and by the name where not."""
    assert ZEKE.owns(theirs)


@pytest.mark.parametrize(
    "another",
    [
        payload(player="Moya", details={"killed": "Zeke"}),
        payload(player="Zeke2"),
        b'{"player": "Moya", "cut',
        b"",
        b"17",
    ],
)
def test_what_is_anothers_stays(another: bytes) -> None:
    """A name that begins alike, or is spoken of, does not make it theirs."""
    assert not ZEKE.owns(another)


def test_a_name_of_any_letters_is_found() -> None:
    """Senders write what is no ASCII as it is, or escaped."""
    name = Name('Zoë "Zed"')
    for ensure_ascii in (True, False):
        cut = json.dumps({"player": 'Zoë "Zed"'}, ensure_ascii=ensure_ascii)[:-2].encode()
        assert name.owns(cut)


def test_a_name_of_any_letters_is_found_in_an_entry_of_another_program() -> None:
    """Its fields are kept a character for each byte, so no letter beyond ASCII stands there as it was."""
    name = Name('Zoë "Zed"')
    said = [json.dumps({"player": 'Zoë "Zed"'}, ensure_ascii=one).encode() for one in (True, False)]
    for raw in ('Zoë "Zed"'.encode(), *said):
        (entry,) = _entries([(b"1-0", [b"who", raw, b"more", b"1"])])
        assert entry.form is Form.FOREIGN
        assert name.without(entry) is Kept.NOTHING, raw


COLE = Name("cole")


@pytest.mark.parametrize(
    "theirs",
    [
        b'{"player": "\\u0063ole", "cut',
        b'{"player": "c\\u006F\\u006ce", "cut',
        b'{"was": "{\\"player\\": \\"cole\\"}", "cut',
        b'{"was": "{\\"player\\": \\"\\\\u0063ole\\"}", "cut',
        b'ed", "player": "cole", "cut',
        b'{"player": "cole", "xp_delta": NaN}',
        b"{player: cole, action: kill_enemy}",
        b"cole,kill_enemy,5",
        b"\\u0063ole,kill_enemy,5",
        b'{"players": ["Moya", "cole"]}',
        b'{"player": "cole',
        b'{"player": "cole\\',
        b'cole", "action": "recharge"}',
        b'{"player": "Moya", "details": {"with": "cole"}, "cut',
    ],
)
def test_a_name_is_found_in_broken_bytes_however_it_is_spelled(theirs: bytes) -> None:
    """Escaped once or twice, in strings of strings, with the beginning gone, or without any string."""
    assert COLE.says(theirs) is Said.THEIRS


def test_a_name_beyond_the_first_plane_is_found() -> None:
    """JSON spells it as two halves."""
    cut = json.dumps({"player": "Zed \U0001f600"})[:-1].encode()
    assert b"\\ud83d" in cut
    assert Name("Zed \U0001f600").says(cut) is Said.THEIRS


@pytest.mark.parametrize(
    "another",
    [
        b'{"player": "coleman", "cut',
        b'{"player": "nicole", "cut',
        b'{"player": "cole_2", "cut',
        b'{"player": "cole\\u00e9", "cut',
        "{'player': 'cole\u0301'}".encode(),
        b"coleman,kill_enemy,5",
        b'{"player": "\\\\u0063ole", "cut',
        b'{"player": "coleman", "xp_delta": NaN, "details": {"with": "cole"}}',
    ],
)
def test_a_longer_word_is_anothers_name(another: bytes) -> None:
    """Whoever asks to be forgotten takes nothing along of those whose names only hold theirs."""
    assert COLE.says(another) is Said.NOTHING


@pytest.mark.parametrize(
    "unsure",
    [
        b'{"player": "cole macgrath", "cut',
        b'{"player": "x\\"cole\\"y", "cut',
        b'{"note": "old cole was here"}',
        b'{"player": "col',
        b'{"player": "\\u0063ol',
        b'le", "action": "recharge"}',
        b"\x1f\x8b\x08\x00",
        '{"player": "cole"}'.encode("utf-16"),
    ],
)
def test_what_cannot_be_decided_is_told(unsure: bytes) -> None:
    """A word of a longer name, a name that is cut off, and what is no text: it stays, and is counted."""
    looked = COLE.look_at(Entry(b"1-0", unsure))
    assert (looked.kept, looked.unsure) == (Kept.ALL, [unsure])
    assert not COLE.owns(unsure)


def test_bytes_that_say_nothing_are_no_doubt() -> None:
    """What is text and does not hold the name is not theirs, and no one need look at it."""
    for raw in (b"", b"bad", b'{"pla', b"[", b"null", payload(player="Moya", rank="Boss")):
        assert COLE.says(raw) is Said.NOTHING, raw


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", [b'"', b'\\"', b'\\\\"', b'" \\', b"\\u0063"])
def test_many_quotes_are_looked_through_in_one_go(piece: bytes) -> None:
    """Pair by pair, a few hundred kilobytes of them would keep an erasure busy for hours."""
    assert COLE.says(b'{"player": "' + piece * 100_000 + b'x", "name": "cole"') is Said.THEIRS


def test_doubts_of_an_array_are_its_own() -> None:
    """An array is sent without what is theirs, and what may be is told by itself."""
    moya, theirs = payload(player="Moya"), payload(player="cole")
    doubtful = b'{"note": "old cole was here"}'
    looked = COLE.look_at(Entry(b"1-0", array_of([moya, theirs, doubtful]), Form.EVENTS))
    assert looked == Looked(array_of([moya, doubtful]), [doubtful])
    (entry,) = _entries([(b"1-0", [b"who", b"coleman", b"blob", b"\xff\xfe"])])
    assert COLE.look_at(entry) == Looked(Kept.ALL, [entry.payload])
    cut = Entry(b"", entry.payload[:-4].replace(b"coleman", b"cole"), Form.FOREIGN)
    assert COLE.without(cut) is Kept.NOTHING


def test_the_others_of_an_array_stay() -> None:
    """To the byte, in their order."""
    others = [payload(number=1, player="Moya"), payload(number=3, player="Trish", rank="Boss")]
    mixed = [others[0], payload(number=2, player="Zeke"), others[1]]
    kept = ZEKE.without(Entry(b"1-0", array_of(mixed), Form.EVENTS))
    assert isinstance(kept, bytes)
    assert split(kept) == others


def test_an_entry_goes_whole_or_stays_whole() -> None:
    """Where nothing is theirs nothing is written anew, and where all is, nothing is left."""
    zeke, moya = payload(player="Zeke"), payload(player="Moya")
    cases = [
        (zeke, Form.EVENT, Kept.NOTHING),
        (moya, Form.EVENT, Kept.ALL),
        (array_of([zeke, zeke]), Form.EVENTS, Kept.NOTHING),
        (array_of([moya]), Form.EVENTS, Kept.ALL),
        (b"[" + zeke, Form.EVENTS, Kept.NOTHING),
        (b"[" + moya, Form.EVENTS, Kept.ALL),
        (b'["name", "Zeke"]', Form.FOREIGN, Kept.NOTHING),
        (b'["name", "Moya"]', Form.FOREIGN, Kept.ALL),
    ]
    for raw, form, kept in cases:
        assert ZEKE.without(Entry(b"1-0", raw, form)) is kept, raw
