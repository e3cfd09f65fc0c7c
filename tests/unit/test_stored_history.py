"""Histories stay JSON until somebody looks, and look like lists of messages to whoever does."""

import json

from turnmill.domain.content import Image, Message
from turnmill.store.codec import StoredHistory

SAID = [
    ["user", [{"type": "text", "text": "a secret"}]],
    ["assistant", [{"type": "text", "text": "Kept."}]],
]
PARTS = [Message.of("user", "a secret"), Message.of("assistant", "Kept.")]


def test_a_stored_history_reads_as_its_messages() -> None:
    history = StoredHistory(json.dumps(SAID))
    assert len(history) == 2
    assert [*history] == PARTS == list(history)
    assert (history[-1], history[:1]) == (PARTS[1], PARTS[:1])
    assert history == PARTS


def test_a_stored_history_does_not_tell_a_log_what_was_said() -> None:
    history = StoredHistory(json.dumps(SAID))
    assert "secret" not in repr(history) + str(history)


def test_the_text_of_a_message_is_that_of_its_parts_in_order_and_others_stay_beside_it() -> None:
    image = {"type": "image", "url": "https://example.org/a.png"}
    parts = [{"type": "text", "text": "one "}, image, {"type": "text", "text": "two"}]
    (message,) = StoredHistory(json.dumps([["user", parts]]))
    assert message.text == "one two"
    assert message.parts[1] == Image(url="https://example.org/a.png")
