"""Histories stay JSON until somebody looks, and look like lists of messages to whoever does."""

import json

from turnmill.domain.parts import Part
from turnmill.store.content import StoredHistory

SAID = [
    ["user", [{"type": "text", "text": "a secret"}]],
    ["assistant", [{"type": "text", "text": "Kept."}]],
]
PARTS = [Part("user", "a secret"), Part("assistant", "Kept.")]


def test_a_stored_history_reads_as_its_messages() -> None:
    history = StoredHistory(json.dumps(SAID))
    assert len(history) == 2
    assert [*history] == PARTS == list(history)
    assert (history[-1], history[:1]) == (PARTS[1], PARTS[:1])
    assert history == PARTS


def test_a_stored_history_does_not_tell_a_log_what_was_said() -> None:
    history = StoredHistory(json.dumps(SAID))
    assert "secret" not in repr(history) + str(history)


def test_a_message_of_several_parts_is_their_text_in_order() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "image"}, {"type": "text", "text": "two"}]
    assert list(StoredHistory(json.dumps([["user", parts]]))) == [Part("user", "one two")]
