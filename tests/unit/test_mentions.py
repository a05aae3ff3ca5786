"""Mentions: what is a player's goes, what is another's stays, whatever the bytes look like."""

from __future__ import annotations

import json

import pytest

from jobs.mentions import Kept, Name
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
