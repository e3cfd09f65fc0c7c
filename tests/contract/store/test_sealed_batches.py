"""Where content is encrypted, so is what lines of a batch say: until they are turns, and then."""

import json
from pathlib import Path

import pytest
from sqlalchemy import select

from tests import rows
from tests.batch_clients import batches_of
from tests.keyed import encrypted, rows_as_they_lie
from turnmill.crypto.wanted import Owner
from turnmill.domain.errors import Conflict
from turnmill.domain.reuse import line_key
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding, sessions
from turnmill.store.schema.batch_tables import batch_lines, reuse_keys
from turnmill.store.schema.tables import batches
from turnmill_worker.process.feeding_batches import make_turns

CANARY = "CANARY-17b1"


def test_lines_lie_sealed_and_become_turns_that_say_what_they_said(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_feeding.feed, "__kwdefaults__", {"limit": 1, "window": 1})
    talk = [
        {"role": "system", "content": f"{CANARY} prompt"},
        {"role": "user", "content": f"{CANARY} one"},
        {"role": "assistant", "content": f"{CANARY} two"},
        {"role": "user", "content": f"{CANARY} three"},
    ]
    path = tmp_path / "jobs.jsonl"
    lines = [
        {"custom_id": "a", "user_id": "ada", "text": f"{CANARY} hello"},
        {"custom_id": "b", "user_id": "bob", "messages": talk},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with encrypted(store):
        batch = batches_of(store).create(path)
        assert CANARY not in rows_as_they_lie(store)
        (first,) = [one for one in batch.iter_results() if one.turn_id is not None]
        assert first.turn_id is not None
        rows.run(store, first.turn_id)
        make_turns(store)
        assert CANARY not in rows_as_they_lie(store)
        results = list(batch.iter_results())
        assert [one.text for one in results] == ["yes", None]
        session_id = results[1].session_id
        assert session_id is not None
        with store.begin() as conn:
            said = [one.text for one in sessions.history(conn, session_id)]
            assert sessions.get(conn, session_id).system_prompt == f"{CANARY} prompt"
        assert said == [f"{CANARY} one", f"{CANARY} two", f"{CANARY} three"]


def test_nobody_who_guesses_what_lines_say_can_tell_by_the_rows_that_he_guessed_right(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"text": "yes"}\n')
    with encrypted(store):
        sealed = batches_of(store).create(path, user_id="ada")
    plain = batches_of(store).create(path, user_id="ada", name="as anybody can hash it")
    with store.begin() as conn:
        kept = {one.id: one for one in conn.execute(select(batches.c.id, batches.c.content_hash))}
        key = {one.batch_id: one.key for one in conn.execute(select(batch_lines))}
        secret = conn.scalars(select(reuse_keys.c.key)).one()
    asked = {"text": "yes", "provider": "mock", "model": "mock", "settings": {}}
    assert line_key(secret, user_id="ada", asked=asked) == key[plain.id] != key[sealed.id]
    assert kept[plain.id].content_hash != kept[sealed.id].content_hash
    assert kept[plain.id].content_hash.hex()[:12] not in sealed.record.name


def test_a_file_that_was_submitted_before_it_was_encrypted_is_the_same_batch(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"text": "yes"}\n')
    unnamed = batches_of(store).create(path, user_id="ada")
    named = batches_of(store).create(path, user_id="ada", name="nightly")
    with encrypted(store):
        assert batches_of(store).create(path, user_id="ada").id == unnamed.id
        assert batches_of(store).create(path, user_id="ada", name="nightly").id == named.id
        again = batches_of(store).create(path, user_id="bob")
        assert batches_of(store).create(path, user_id="bob").id == again.id
        path.write_text('{"text": "no"}\n')
        with pytest.raises(Conflict):
            batches_of(store).create(path, user_id="ada", name="nightly")


def test_equal_lines_are_paid_for_once_where_they_are_encrypted_and_keys_rotated(
    store: Database, tmp_path: Path
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text('{"text": "yes"}\n')
    with encrypted(store) as keys:
        first = batches_of(store).create(path, user_id="ada", name="one")
        for one in first.iter_results():
            assert one.turn_id is not None
            rows.run(store, one.turn_id)
        keys.rotate(Owner("ada"))
        second = batches_of(store).create(path, user_id="ada", name="two", reuse=True)
        assert [one.reused for one in second.iter_results()] == [True]
