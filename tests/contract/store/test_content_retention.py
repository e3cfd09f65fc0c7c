"""Content goes when its time is over, figures stay, and nothing brings it back."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from tests import rows, steps
from tests.batch_clients import batches_of
from turnmill.domain.errors import ContentGone, IdempotencyConflict
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.states import TurnState
from turnmill.new_ids import new_id
from turnmill.store import kept
from turnmill.store.database import Database
from turnmill.store.line.accept_many import accept_many
from turnmill.store.line.attached import release_turns, use
from turnmill.store.nouns import sessions, turns
from turnmill.store.nouns.user_retention import content_kept_of, keep_content_of
from turnmill.store.records import Fenced
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.compaction_tables import compactions
from turnmill.store.schema.file_tables import attachment_uses, attachments
from turnmill.store.schema.kept_tables import kept_refs
from turnmill.store.schema.tables import attempts, messages
from turnmill.store.schema.tables import batches as batch_rows
from turnmill.store.schema.tables import turns as turn_rows
from turnmill.store.turn_records import TurnRecord
from turnmill.store.upkeep.batch_retention import purge_lines
from turnmill.store.upkeep.content_retention import empty_content, sessions_with_old_content
from turnmill.verbs.reply import read_reply

pytestmark = pytest.mark.usefixtures("sound")

DAY = timedelta(days=1)
NOW = datetime.now(UTC)


def aged(store: Database, session: SessionId, days: float, text: str, **options: Any) -> TurnId:
    """Have a turn answered that ended so many days ago."""
    said = {name: options.pop(name) for name in ("idempotency_key",) if name in options}
    turn = steps.send(store, session, text, **said).turn_id
    steps.end(store, steps.take_one(store, turn), **options)
    rows.ended_at(store, turn, NOW - days * DAY)
    rows.set_session(store, session, created_at=NOW - 400 * DAY)
    return turn


def empty(store: Database, default: timedelta | None = 30 * DAY) -> int:
    """Do what the job does; return of how many turns content went."""
    total = 0
    with store.begin() as conn:
        found = sessions_with_old_content(conn, default=default)
    for session in found:
        more = True
        while more:
            with store.begin() as conn:
                done, more = empty_content(conn, session, default=default)
            total += done
    return total


def texts(store: Database, session: SessionId) -> list[str]:
    with store.begin() as conn:
        return [one.text for one in sessions.history(conn, session)]


def test_what_was_said_goes_with_its_turn_and_figures_stay(store: Database) -> None:
    session = rows.start(store)
    old = aged(store, session, 31, "secret", cost_usd=None)
    aged(store, session, 29, "kept")
    before = sessions_get(store, session)
    assert empty(store) == 1
    assert texts(store, session) == ["", "", "kept", "answer to kept"]
    after = sessions_get(store, session)
    assert (after.input_tokens, after.turns_succeeded) == (before.input_tokens, 2)
    with store.begin() as conn:
        assert turns.get(conn, old).input_tokens == 3
        with pytest.raises(ContentGone):
            read_reply(conn, old)
    assert empty(store) == 0


def sessions_get(store: Database, session: SessionId) -> Any:
    with store.begin() as conn:
        return sessions.get(conn, session)


def test_a_model_is_shown_what_is_left(store: Database) -> None:
    session = rows.start(store)
    aged(store, session, 31, "secret", provider_ref="resp_1")
    aged(store, session, 1, "kept", provider_ref="resp_2")
    assert empty(store) == 1
    claim = steps.take_one(store, steps.send(store, session, "next").turn_id)
    assert claim.provider_ref == ""
    assert "".join(one.text for one in claim.history or ()) == "keptanswer to kept"
    steps.end(store, claim)
    with store.begin() as conn:
        due = {one.ref for one in kept.take_due(conn, again_after=DAY)}
    assert due == {"resp_1", "resp_2"}  # the vendor had it in its thread


def test_a_session_goes_before_its_user_and_a_user_before_everybody(store: Database) -> None:
    bob, ada, eve = (rows.start(store, user_id=name) for name in ("bob", "ada", "eve"))
    rows.update_session(store, eve, keep_content=1000 * DAY)
    with store.begin() as conn:
        keep_content_of(conn, "ada", 5 * DAY)
        keep_content_of(conn, "eve", 5 * DAY)
        assert content_kept_of(conn, "ada") == 5 * DAY
    for session in (bob, ada, eve):
        aged(store, session, 10, "said")
    assert empty(store, None) == 1
    assert [texts(store, one)[0] for one in (bob, ada, eve)] == ["said", "", "said"]
    assert empty(store, 7 * DAY) == 1
    assert [texts(store, one)[0] for one in (bob, ada, eve)] == ["", "", "said"]
    with store.begin() as conn:
        keep_content_of(conn, "ada", None)
        assert content_kept_of(conn, "ada") is None


def test_where_nobody_says_for_how_long_nothing_is_looked_for(store: Database) -> None:
    session = rows.start(store)
    aged(store, session, 1000, "said")
    assert empty(store, None) == 0
    assert texts(store, session)[0] == "said"


def test_a_summary_goes_with_the_first_turn_that_it_is_of(store: Database) -> None:
    session = rows.start(store)
    old = aged(store, session, 31, "secret")
    aged(store, session, 1, "kept")
    row = {"turn_id": old, "kind": "summarise", "up_to_seq": 2, "turns": 2}
    with store.begin() as conn:
        conn.execute(
            insert(compactions).values(
                session_id=session, n=1, summary=[{"type": "text", "text": "secret"}], **row
            )
        )
    assert empty(store) == 1
    with store.begin() as conn:
        assert conn.scalars(select(compactions.c.summary)).all() == [None]


def test_words_of_vendors_about_a_turn_go_too(store: Database) -> None:
    session = rows.start(store)
    turn = rows.send(store, session)
    rows.run(store, turn, TurnState.FAILED, error_code="rejected", error_detail="you said secret")
    rows.ended_at(store, turn, NOW - 31 * DAY)
    rows.set_session(store, session, created_at=NOW - 400 * DAY)
    assert empty(store) == 1
    with store.begin() as conn:
        assert conn.scalars(select(attempts.c.error_detail)).all() == [None]
        with pytest.raises(ContentGone):
            turns.retry(conn, turn, new_id=TurnId(new_id()))
        assert turns.get(conn, turn).error_code == "rejected"


def test_no_hash_stays_by_which_a_few_words_can_be_guessed_and_a_key_stands_for_its_turn(
    store: Database,
) -> None:
    session = rows.start(store)
    old = aged(store, session, 31, "yes", idempotency_key="gone")
    new = aged(store, session, 1, "no", idempotency_key="kept")
    assert empty(store) == 1
    with store.begin() as conn:
        hashes = dict(conn.execute(select(turn_rows.c.id, turn_rows.c.idempotency_hash)).all())
    assert hashes == {old: b"", new: hashlib.sha256(b"no").digest()}
    for text in ("yes", "what nobody can tell from it any more"):
        again = steps.send(store, session, text, idempotency_key="gone")
        assert (again.turn_id, again.created) == (old, False)
        assert send_many(store, session, text, key="gone") == [(old, False)]
    with pytest.raises(IdempotencyConflict):
        steps.send(store, session, "yes", idempotency_key="kept")


def send_many(store: Database, session: SessionId, text: str, *, key: str) -> list[Any]:
    with store.begin() as conn:
        done = accept_many(conn, [(session, rows.say(text, idempotency_key=key))])
    return [(one.turn_id, one.created) for one in done]


def test_lines_of_batches_lose_what_equal_ones_are_found_by(
    store: Database, tmp_path: Path
) -> None:
    of_yes = answered_twice(store, tmp_path)
    age(store, of_yes)
    assert empty(store) == 1
    assert keyed(store) == [(1, False), (1, False), (2, True), (2, True)]


def test_so_do_lines_that_have_an_answer_whose_own_line_went_before_it(
    store: Database, tmp_path: Path
) -> None:
    of_yes = answered_twice(store, tmp_path)
    with store.begin() as conn:
        old = batch_rows.update().where(batch_rows.c.name == "first")
        conn.execute(old.values(ended_at=NOW - 60 * DAY))
        assert purge_lines(conn, older_than=50 * DAY) == 2
    assert keyed(store) == [(1, True), (2, True)]
    age(store, of_yes)
    assert empty(store) == 1
    assert keyed(store) == [(1, False), (2, True)]


def test_so_do_lines_that_have_an_answer_of_a_session_that_is_deleted(
    store: Database, tmp_path: Path
) -> None:
    of_yes = answered_twice(store, tmp_path)
    with store.begin() as conn:
        sessions.remove(conn, of_yes.session_id)
    assert keyed(store) == [(1, False), (2, True), (2, True)]


def answered_twice(store: Database, folder: Path) -> TurnRecord:
    """Have two lines answered, and their answers taken by equal ones; return the first turn."""
    first = batches_of(store).create(lines(folder, "yes", "no"), user_id="ada", name="first")
    said = {one.line: one.turn_id for one in first.iter_results()}
    for turn in said.values():
        assert turn is not None
        rows.run(store, turn)
    path = lines(folder, "yes", "no")
    batches_of(store).create(path, user_id="ada", name="again", reuse=True)
    yes = said[1]
    assert yes is not None
    with store.begin() as conn:
        return turns.get(conn, yes)


def age(store: Database, turn: TurnRecord) -> None:
    rows.ended_at(store, turn.id, NOW - 31 * DAY)
    rows.set_session(store, turn.session_id, created_at=NOW - 400 * DAY)


def keyed(store: Database) -> list[tuple[int, bool]]:
    """Return the lines of all batches, and whether each is found by equal ones."""
    with store.begin() as conn:
        found = conn.execute(select(batch_lines.c.line, batch_lines.c.key.is_not(None)))
        return sorted((line, has_key) for line, has_key in found)


def lines(folder: Path, *texts: str) -> Path:
    path = folder / "lines.jsonl"
    path.write_text("".join(f"{json.dumps({'text': one})}\n" for one in texts))
    return path


def test_a_session_in_which_a_turn_runs_is_left_and_a_frozen_worker_fenced_off(
    store: Database,
) -> None:
    session = rows.start(store)
    aged(store, session, 31, "secret")
    claim = steps.take_one(store, steps.send(store, session, "late").turn_id)
    assert empty(store) == 0
    with store.begin() as conn:
        assert empty_content(conn, session, default=DAY) == (0, False)
    steps.lose(store, claim.turn_id)
    steps.cancel(store, claim.turn_id)
    rows.ended_at(store, claim.turn_id, NOW - 31 * DAY)
    assert empty(store) == 2
    assert isinstance(steps.end(store, claim, reply="secret again"), Fenced)
    assert texts(store, session) == ["", "", ""]


def test_a_long_session_is_emptied_in_commits_of_their_own(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnmill.store.upkeep.content_retention._TURNS_AT_ONCE", 2)
    session = rows.start(store)
    for day in range(35, 30, -1):
        aged(store, session, day, "said")
    with store.begin() as conn:
        done, more = empty_content(conn, session, default=30 * DAY)
    assert (done, more) == (2, True)
    assert empty(store) == 3
    assert set(texts(store, session)) == {""}
    with store.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(messages)) == 10


def test_work_at_a_vendor_that_is_waited_for_is_let_go_afterwards(store: Database) -> None:
    session = rows.start(store)
    aged(store, session, 31, "secret", provider_ref="resp_1")
    waiting = steps.send(store, session).turn_id
    steps.end(store, steps.take_one(store, waiting), TurnState.WAITING, native_ref="bg_1")
    assert empty(store) == 1
    with store.begin() as conn:
        assert kept.take_due(conn, again_after=DAY) == []
        turns.cancel(conn, waiting)
    assert empty(store) == 0
    with store.begin() as conn:
        due = {one.ref for one in kept.take_due(conn, again_after=DAY)}
    assert due == {"resp_1", "bg_1"}


def test_files_of_a_turn_are_let_go_with_what_was_said_in_it(store: Database) -> None:
    session, picture = rows.start(store), new_id()
    old = aged(store, session, 31, "see")
    with store.begin() as conn:
        row = {"id": picture, "user_id": "ada", "sha256": "a", "size": 1, "ready": True}
        conn.execute(insert(attachments).values(**row, media_type="image/png"))
        use(conn, session, old, [picture])
    assert empty(store) == 1
    with store.begin() as conn:
        assert conn.scalars(select(attachment_uses.c.turn_id)).all() == []
        assert conn.scalars(select(attachments.c.due_at.is_not(None))).all() == [True]


def test_a_vendors_copy_of_a_file_goes_with_the_last_turn_of_its_session_that_holds_it(
    store: Database,
) -> None:
    """Though the session waits for its vendor at that moment, and keeps what else is there."""
    session, picture, other = rows.start(store), new_id(), new_id()
    old, later = aged(store, session, 31, "see"), aged(store, session, 5, "and that")
    with store.begin() as conn:
        for n, one in enumerate((picture, other)):
            row = {"id": one, "user_id": "ada", "sha256": f"{n}", "size": 1, "ready": True}
            conn.execute(insert(attachments).values(**row, media_type="image/png"))
            ref = {"session_id": session, "ref": f"file-{n}", "provider": "openai"}
            more = {"stored": True, "running": False, "attachment_id": str(one)}
            conn.execute(insert(kept_refs).values(**ref, **more))
        use(conn, session, old, [picture, other])
        use(conn, session, later, [other])
    with store.begin() as conn:
        release_turns(conn, [old])
    with store.begin() as conn:
        due = conn.execute(select(kept_refs.c.ref, kept_refs.c.due_at.is_not(None))).all()
    assert sorted(tuple(one) for one in due) == [("file-0", True), ("file-1", False)]
    with store.begin() as conn:
        release_turns(conn, [later])
        assert conn.scalars(select(kept_refs.c.due_at.is_not(None))).all() == [True, True]
