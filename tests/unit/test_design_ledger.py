from __future__ import annotations

import dataclasses
import math

import pytest

from neuromod_core.design import Entry, append, dump, head, load, verify
from neuromod_core.kernel.errors import IntegrityError


def chain() -> list[Entry]:
    entries: list[Entry] = []
    entries.append(append(entries, "plan", {"units": 48, "arms": ["A", "B"]}))
    entries.append(append(entries, "seal", {"commitment": "bfba", "note": "line\u2028separator, ümlaut"}))
    entries.append(append(entries, "unblind", {"dose": 0.5, "reason": None}))
    return entries


def test_a_chain_verifies_and_survives_the_journey_through_text() -> None:
    entries = chain()
    verify(entries)
    assert load(dump(entries)) == tuple(entries)
    assert load("") == ()


def test_each_entry_holds_the_hash_of_the_one_before() -> None:
    entries = chain()
    assert [entry.index for entry in entries] == [0, 1, 2]
    assert [entry.previous for entry in entries] == ["0" * 64, entries[0].hash, entries[1].hash]
    assert head(entries) == entries[2].hash


def test_any_changed_character_of_the_text_is_found() -> None:
    text = dump(chain())
    for place, character in enumerate(text):
        changed = "1" if character != "1" else "2"
        with pytest.raises(IntegrityError, match="Ledger"):
            load(text[:place] + changed + text[place + 1 :])


@pytest.mark.parametrize("kept", [(1, 2), (0, 2), (1, 0, 2), (0, 0, 1), (2,)])
def test_dropping_repeating_or_reordering_entries_is_found(kept: tuple[int, ...]) -> None:
    entries = chain()
    with pytest.raises(IntegrityError):
        verify([entries[place] for place in kept])


def test_dropping_the_last_entry_is_found_by_who_knows_the_head() -> None:
    entries = chain()
    verify(entries[:2])
    assert head(entries[:2]) != head(entries)


def test_a_rewritten_entry_is_named() -> None:
    entries = chain()
    entries[1] = dataclasses.replace(entries[1], payload={"commitment": "0000"})
    with pytest.raises(IntegrityError, match=r"^Ledger entry 1 \('seal'\) is not what was recorded: its hash is "):
        verify(entries)


def test_a_rewritten_entry_with_a_new_hash_breaks_the_next_link() -> None:
    entries = chain()
    entries[1] = append(entries[:1], "seal", {"commitment": "0000"})
    with pytest.raises(IntegrityError, match=r"^Ledger entry 2 \('unblind'\) .* its previous is "):
        verify(entries)


def test_an_entry_keeps_its_content_when_the_caller_changes_theirs() -> None:
    payload = {"arms": ["A"]}
    entry = append([], "plan", payload)
    payload["arms"].append("B")
    verify([entry])
    assert entry.payload == {"arms": ["A"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "Ledger line 1 is cut short: it does not end in a line feed."),
        ("{}\n", "Ledger line 1 is not an entry in canonical form."),
        ("nonsense\n", "Ledger line 1 is not JSON: "),
        ("\n", "Ledger line 1 is not JSON: "),
        ("[]\n", "Ledger line 1 is not an entry in canonical form."),
        ('{"hash":"","index":0,"kind":"","payload":{"x":1e999},"previous":""}\n', "Ledger line 1 is not JSON: inf "),
        (
            '{"hash":"","index":0,"kind":"","payload":{},"previous":"","x":1}\n',
            "Ledger line 1 is not an entry in canon",
        ),
        (
            '{"hash": "", "index":0,"kind":"","payload":{},"previous":""}\n',
            "Ledger line 1 is not an entry in canonical",
        ),
    ],
)
def test_text_that_no_ledger_wrote_is_refused(text: str, message: str) -> None:
    with pytest.raises(IntegrityError) as caught:
        load(text)
    assert str(caught.value).startswith(message)


def test_what_has_no_canonical_form_is_not_recorded() -> None:
    with pytest.raises(TypeError, match="nan has no canonical form"):
        append([], "plan", {"dose": math.nan})
