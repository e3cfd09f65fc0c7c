"""A session that is too long, or refused for its structure, goes on: by a client, to the end."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.narrow import SUMMARY, WINDOW
from turnmill import Client, SessionRecord, TurnFailed
from turnmill.cli.commands.sessions import command

WAIT = 30


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("TURNMILL_LAYERS", "window?=tests.narrow:window,picky?=tests.narrow:picky")
    monkeypatch.setenv("TURNMILL_DATABASE_URL", f"sqlite:///{tmp_path / 'turnmill.db'}")
    with Client.from_env() as client:
        yield client


def a_session(client: Client, layer: str, **settings: str) -> SessionRecord:
    return client.sessions.create(user_id="ada", settings={"layers": [layer], **settings})


def talk(client: Client, session: SessionRecord, turns: int) -> list[str]:
    return [client.send(session, f"say {n}").result(timeout=WAIT).text for n in range(1, turns + 1)]


def test_a_session_goes_on_for_ever_and_keeps_all_that_was_said(
    client: Client,
) -> None:
    session = a_session(client, "window", on_context_full="truncate")
    replies = talk(client, session, 12)
    assert all(f"say {n}" in text for n, text in enumerate(replies, 1))
    said = [one.text for one in client.sessions.history(session)]
    assert [one for one in said if one.startswith("say")] == [f"say {n}" for n in range(1, 13)]
    kept = client.sessions.compactions(session)
    assert len(kept) > 1
    assert [one.up_to_seq for one in kept] == [one.turns for one in kept]
    assert client.sessions.get(session).turns_failed == 0


def test_a_session_that_failed_for_its_length_goes_on_once_it_may_leave_something_out(
    client: Client,
) -> None:
    session = a_session(client, "window")
    talk(client, session, WINDOW // 2)
    failed = client.send(session, "too much")
    with pytest.raises(TurnFailed) as caught:
        failed.result(timeout=WAIT)
    assert caught.value.error_code == "context_full"
    client.sessions.update(session, settings={"layers": ["window"], "on_context_full": "summarise"})
    assert "too much" in failed.retry().result(timeout=WAIT).text
    assert talk(client, session, 3)


def test_a_summary_is_shown_to_whoever_looks_and_stands_in_no_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="turnmill")
    session = a_session(client, "window", on_context_full="summarise")
    talk(client, session, 6)
    last = client.sessions.compactions(session)[-1]
    assert last.summary == SUMMARY
    assert "canary" not in f"{last!r}{caplog.text}"
    facts = shown("show", str(session.id))
    assert f"the first {last.turns} replies are not sent any more" in facts
    assert "canary" not in facts
    text = shown("show", str(session.id), "--text")
    before, mark, after = text.partition("the model is shown none of the above")
    assert mark and f"say {last.up_to_seq}" in before and SUMMARY in after
    assert f"say {last.up_to_seq + 1}" in after


def shown(*arguments: str) -> str:
    found = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def test_a_history_that_is_refused_as_it_is_built_ends_no_session(client: Client) -> None:
    session = client.sessions.create(user_id="ada", max_attempts=1, settings={"layers": ["picky"]})
    assert len(talk(client, session, 4)) == 4
    turn = client.turns.list(session=session, limit=1)[0]
    assert [one.outcome for one in turn.attempts()] == ["refused", "succeeded"]
    assert [one.error_code for one in turn.attempts()] == ["history_refused", None]
