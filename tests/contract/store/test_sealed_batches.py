"""Where content is encrypted, so is what lines of a batch say: until they are turns, and then."""

import json
from pathlib import Path

import pytest

from tests import rows
from tests.batch_clients import batches_of
from tests.keyed import encrypted, rows_as_they_lie
from turnmill.store.database import Database
from turnmill.store.nouns import batch_feeding, sessions
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
