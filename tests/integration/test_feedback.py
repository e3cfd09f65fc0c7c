"""Feedback and figures by both clients and the command line, as docs/feedback.md says it."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import rows
from tests.acceptance.pages import ROOT, blocks_of
from tests.acceptance.terminal import Terminal
from tests.keyed import in_a_file, rows_as_they_lie
from turnmill import AsyncClient, Client, MoveRefused, Settings, UserInsights
from turnmill.domain.states import TurnState
from turnmill.store.database import Database
from turnmill.sync.turns import Turn

CANARY = "canary-of-a-comment"


@pytest.fixture
def client(database_url: str) -> Iterator[Client]:
    with Client(database_url=database_url) as client:
        yield client


def answered(client: Client, key: str = "s", state: TurnState = TurnState.SUCCEEDED) -> Turn:
    client.sessions.create(user_id="ada", key=key)
    turn = client.send(key, "Where is my order?")
    rows.run(client._executor.database, turn.id, state)
    return turn


def test_the_page_is_run_as_it_stands(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    turn = answered(client)
    names = {"client": client, "turn": turn}
    for block in blocks_of(ROOT / "docs" / "feedback.md"):
        if "feedback" in block.marks.get("run by", ""):
            exec(block.text, names)
        turn.feedback(-1, "for what is printed next")
    assert "for what is printed next" in capsys.readouterr().out


def test_a_loop_gives_and_reads_the_same(client: Client, database_url: str) -> None:
    turn = answered(client)

    async def on_a_loop() -> UserInsights:
        async with AsyncClient(database_url=database_url) as other:
            mine = await other.turns.get(turn.id)
            await mine.feedback(0.5, "fine")
            await other.turns.feedback(turn.id, -1, by="bob")
            found = await other.analytics.session("s")
            assert (found.satisfaction.score, found.satisfaction.given.comments) == (-0.25, 1)
            assert [one.comment for one in await other.analytics.feedback()] == [None, "fine"]
            return await other.analytics.user("ada", since="1d")

    assert asyncio.run(on_a_loop()).satisfaction.score == 0.5


def test_the_command_line_gives_takes_back_lists_and_adds_up(
    client: Client, database_url: str, tmp_path: Path
) -> None:
    turn, open_turn = answered(client), client.send("s", "and now?")
    terminal = Terminal(tmp_path, {"TURNMILL_DATABASE_URL": database_url})
    said = terminal.run("turns", "feedback", str(turn.id), "--score", "-0.5", "--comment", "slow")
    assert (said.code, "-0.50" in said.out) == (0, True)
    listed = terminal.run("analytics", "feedback", "--json", "--most", "0")
    assert [json.loads(line)["comment"] for line in listed.out.splitlines()] == ["slow"]
    shown = terminal.run("analytics", "session", "s")
    assert "-0.50 of 1: 0 good, 1 bad" in shown.out
    assert "a guess by the conversation's shape" in shown.out
    found = json.loads(terminal.run("analytics", "user", "ada", "--json").out)
    assert (found["satisfaction"]["score"], found["counts"]["turns"]) == (-0.5, 2)
    assert terminal.run("turns", "feedback", str(turn.id), "--take-back").code == 0
    assert terminal.run("analytics", "feedback").out == ""
    assert terminal.run("turns", "feedback", str(turn.id)).code == 2
    refused = terminal.run("turns", "feedback", str(open_turn.id), "--score", "1")
    assert (refused.code != 0, "queued" in refused.err) == (True, True)


def test_with_keys_comments_lie_sealed_and_figures_are_made_of_words(
    database_url: str, tmp_path: Path
) -> None:
    in_a_file(tmp_path / "keyring")
    settings = Settings(
        database_url=database_url,
        encryption_keys=str(tmp_path / "keyring"),
        key_store=str(tmp_path / "wrapped"),
        home=tmp_path,
    )
    with Client(settings=settings) as client:
        turn = answered(client)
        turn.feedback(-1, CANARY)
        assert [one.comment for one in client.analytics.feedback()] == [CANARY]
        estimate = client.analytics.session("s").estimate
        assert estimate is not None
        assert estimate.basis == "words"
        assert CANARY not in rows_as_they_lie(client._executor.database)
    with Client(settings=settings) as again:  # that holds no key yet
        assert again.analytics.user("ada", since="1d").satisfaction.score == -1
        assert again.analytics.feedback(user_id="ada")[0].comment == CANARY


def test_a_word_on_a_turn_that_runs_again_at_the_same_time_is_of_one_of_its_replies(
    client: Client,
) -> None:
    turn = answered(client, state=TurnState.FAILED)
    turn.feedback(-1)
    turn.retry()
    with pytest.raises(MoveRefused):
        turn.feedback(1)
    rows.run(client._executor.database, turn.id)
    assert client.analytics.feedback() == []
    turn.feedback(1)
    assert [one.score for one in client.analytics.feedback()] == [1]


#: Users, sessions of each and turns of each session.
_MANY = (500, 4, 10)
_FILL = """
WITH made AS (
    INSERT INTO turnmill.sessions (id, user_id, provider, model, next_seq, turns_succeeded)
    SELECT md5(u || '/' || s)::uuid, 'user ' || u, 'mock', 'mock', {turns} + 1, {turns}
    FROM generate_series(1, {users}) u, generate_series(1, {sessions}) s RETURNING id
), said AS (
    INSERT INTO turnmill.turns (id, session_id, seq, max_attempts, state, claims, started_at,
        finished_at)
    SELECT md5(id || '/' || n)::uuid, id, n, 5, 'succeeded', 1, now(), now()
    FROM made, generate_series(1, {turns}) n RETURNING id, session_id
), asked AS (
    INSERT INTO turnmill.messages (id, session_id, turn_id, position, role, content, final)
    SELECT md5(id || role)::uuid, session_id, id, place, role, '[{{"type": "text", "text": "hi"}}]',
        place = 1
    FROM said, (VALUES (0, 'user'), (1, 'assistant')) AS parts (place, role)
), tried AS (
    INSERT INTO turnmill.attempts (turn_id, fence, n, kind, worker, ended_at, outcome, provider_ms)
    SELECT id, 1, 1, 'send', 'one', now(), 'succeeded', 20 FROM said
)
INSERT INTO turnmill.feedback (id, turn_id, session_id, score)
SELECT md5(id || 'f')::uuid, id, session_id, 1 FROM said
"""


def test_what_a_user_or_a_session_takes_to_read_is_not_what_all_others_have(
    client: Client,
) -> None:
    """Of a table that a statement reads from one end to the other, it reads every row."""
    users, sessions, each = _MANY
    store = client._executor.database
    with store.begin() as conn:
        conn.exec_driver_sql(_FILL.format(users=users, sessions=sessions, turns=each))
    with store.single() as conn:
        conn.exec_driver_sql("VACUUM ANALYZE")
    before = rows_read(store)
    found = client.analytics.user("user 7", since="1d")
    session = client.sessions.list(user_id="user 7")[0]
    metrics = client.analytics.session(session)
    said = client.analytics.feedback(user_id="user 7", limit=1000)
    assert (found.counts.turns, metrics.counts.turns, len(said)) == (40, 10, 40)
    assert rows_read(store) - before < 5_000  # there are 140,000


def rows_read(store: Database) -> int:
    """Return how many rows were read from one end of a table to the other, by all so far."""
    with store.single() as conn:
        conn.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with store.single() as conn:
        conn.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
        found = conn.exec_driver_sql(
            "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = 'turnmill'"
            " AND relname IN ('sessions', 'turns', 'messages', 'attempts', 'feedback')"
        )
        return int(found.scalar_one())
