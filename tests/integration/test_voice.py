"""Turns that are spoken, from a client's send to the sound that it is given."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.openai_audio import AudioDouble
from tests.openai_sessions import sound_client, vendor_at_hand
from tests.sounds import mp3, wav
from turnmill import AsyncClient, Audio, Client, InvalidInput, Text, TurnFailed
from turnmill.domain.content import Part
from turnmill.settings import Settings
from turnmill.sync.turns import Turn
from turnmill.testing import memory_client, script
from turnmill_worker.providers.mock.provider import MockProvider
from turnmill_worker.providers.port import Request

WAIT = timedelta(seconds=30)
QUESTION = "Is it far?"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with memory_client() as client:
        yield client


def session_of(client: Client, **settings: Any) -> Any:
    return client.sessions.create(user_id="ada", provider="mock", model="m", settings=settings)


def heard(**more: Any) -> Any:
    return script(transcript=QUESTION, **more)


def course(turn: Turn) -> list[tuple[str, int, str | None]]:
    return [(one.kind, one.step, one.outcome) for one in turn.attempts()]


def test_words_stand_beside_the_sound_and_are_what_the_model_is_told(client: Client) -> None:
    session = session_of(client)
    turn = client.send(session, Audio(wav(1.0)), metadata=heard())
    reply = turn.result(WAIT)
    assert QUESTION in reply.text
    assert reply.audio is None
    (said, _) = turn.messages()
    assert [type(one) for one in said.parts] == [Audio, Text]
    assert isinstance(said.parts[0], Audio)
    assert said.parts[0].duration == timedelta(seconds=1)
    assert said.text == QUESTION
    assert course(turn) == [("transcribe", 1, "called"), ("send", 2, "succeeded")]
    again = client.send(session, "And back?").result(WAIT)
    assert again.text.endswith("[2 before]"), "the history holds the words"


def test_a_turn_may_be_answered_aloud_though_its_session_is_not_and_the_other_way_round(
    client: Client,
) -> None:
    quiet, loud = session_of(client), session_of(client, reply_as="audio")
    assert client.send(quiet, "Hello", reply_as="audio").result(WAIT).audio is not None
    assert client.send(quiet, "Hello").result(WAIT).audio is None
    assert client.send(loud, "Hello").result(WAIT).audio is not None
    assert client.send(loud, "Hello", reply_as="text").result(WAIT).audio is None


def test_what_is_spoken_is_an_attachment_of_the_users(client: Client, tmp_path: Path) -> None:
    reply = client.send(session_of(client), "Hello", reply_as="audio").result(WAIT)
    assert reply.audio is not None
    kept = client.attachments.get(reply.audio.id)
    assert kept.user_id == "ada"
    assert kept.duration == reply.audio.duration == timedelta(seconds=0.06 * len(reply.text))
    reply.audio.save(tmp_path / "answer.wav")
    assert (tmp_path / "answer.wav").read_bytes() == b"".join(client.attachments.open(kept.id))
    assert [one.name for one in tmp_path.iterdir()] == ["answer.wav"]
    assert (tmp_path / "answer.wav").stat().st_mode & 0o777 == 0o600


def test_speech_goes_through_a_link_and_into_a_fifo_and_replaces_neither(
    client: Client, tmp_path: Path
) -> None:
    reply = client.send(session_of(client), "Hello", reply_as="audio").result(WAIT)
    assert reply.audio is not None
    link, fifo = tmp_path / "link.wav", tmp_path / "fifo"
    link.symlink_to("target.wav")
    reply.audio.save(link)
    whole = (tmp_path / "target.wav").read_bytes()
    assert link.is_symlink() and len(whole) > 44
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit(fifo.read_bytes)
        reply.audio.save(fifo)
        assert read.result(timeout=10) == whole
    assert fifo.is_fifo()


@pytest.mark.parametrize("path", [5, None, b"x.wav", "", "a\0b", "\ud800"])
def test_speech_is_not_written_where_no_file_can_be(client: Client, path: Any) -> None:
    reply = client.send(session_of(client), "Hello", reply_as="audio").result(WAIT)
    assert reply.audio is not None
    with pytest.raises(InvalidInput, match="path"):
        reply.audio.save(path)


def test_several_sounds_are_heard_one_by_one_where_they_stand(client: Client) -> None:
    said: list[Part] = [Text("First:"), Audio(wav(1.0)), Text("then:"), Audio(mp3(2.0))]
    turn = client.send(session_of(client), said)
    turn.result(WAIT)
    (message, _) = turn.messages()
    kinds = [type(one) for one in message.parts]
    assert kinds == [Text, Audio, Text, Text, Audio, Text]
    assert message.text.startswith("First:\n(16044 bytes of audio/wav")
    assert "then:\n(" in message.text
    assert [kind for kind, _, _ in course(turn)] == ["transcribe", "transcribe", "send"]


def test_a_sound_is_dropped_when_its_words_stand_where_the_session_says_so(client: Client) -> None:
    session = session_of(client, keep_audio=False)
    kept = client.attachments.put(wav(1.0), user_id="ada")
    turn = client.send(session, Audio(kept), metadata=heard())
    turn.result(WAIT)
    (said, _) = turn.messages()
    assert said.parts == (Text(QUESTION),)


def test_a_session_whose_model_hears_itself_is_not_transcribed(client: Client) -> None:
    turn = client.send(session_of(client, audio="native"), Audio(wav(1.0)))
    assert "audio/wav" in turn.result(WAIT).text, "the mock says what it was given"
    assert [type(one) for one in turn.messages()[0].parts] == [Audio]
    assert [kind for kind, _, _ in course(turn)] == ["send"]


@pytest.mark.parametrize(("step", "kind"), [(1, "transcribe"), (2, "send"), (3, "speak")])
def test_a_step_that_fails_is_tried_again_alone(client: Client, step: int, kind: str) -> None:
    turn = client.send(
        session_of(client),
        Audio(wav(1.0)),
        reply_as="audio",
        metadata=heard(faults=["unreachable"], at_step=step),
    )
    assert turn.result(WAIT).audio is not None
    kinds = [one for one, _, _ in course(turn)]
    expected = {
        "transcribe": ["transcribe", "transcribe", "send", "speak"],
        "send": ["transcribe", "send", "send", "speak"],
        "speak": ["transcribe", "send", "speak", "speak"],
    }
    assert kinds == expected[kind]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let names be checked by workers alone, as where providers are not installed beside."""
    monkeypatch.setattr("turnmill.verbs.installed.entry_points", lambda **_: EntryPoints())


@pytest.mark.usefixtures("elsewhere")
def test_a_speech_that_fails_for_good_leaves_the_words_and_a_retry_goes_on_there(
    client: Client,
) -> None:
    session = session_of(client, audio_model="nobody/v1")
    turn = client.send(session, Audio(wav(1.0)), reply_as="audio", metadata=heard())
    with pytest.raises(TurnFailed, match="provider_unknown"):
        turn.result(WAIT)
    assert QUESTION in turn.messages()[-1].text
    client.sessions.update(session, settings={"audio_model": "mock"})
    again = turn.retry()
    assert again.result(WAIT).audio is not None
    done = [kind for kind, _, outcome in course(again) if outcome in ("called", "succeeded")]
    assert done == ["transcribe", "send", "speak"], "neither is paid for again"


@pytest.mark.usefixtures("elsewhere")
def test_a_turn_that_is_retried_behind_others_takes_along_what_it_has_paid_for(
    client: Client,
) -> None:
    session = session_of(client, audio_model="nobody/v1")
    turn = client.send(session, Audio(wav(1.0)), reply_as="audio", metadata=heard())
    with pytest.raises(TurnFailed):
        turn.result(WAIT)
    client.send(session, "Never mind").result(WAIT)
    client.sessions.update(session, settings={"audio_model": "mock"})
    again = turn.retry()
    assert again.id != turn.id
    reply = again.result(WAIT)
    assert QUESTION in reply.text
    assert reply.audio is not None
    assert [kind for kind, _, _ in course(again)] == ["speak"]


def test_a_sound_without_a_word_fails_its_turn_and_no_model_is_asked(client: Client) -> None:
    turn = client.send(session_of(client), Audio(wav(1.0)), metadata=script(transcript=""))
    with pytest.raises(TurnFailed, match="nothing_heard"):
        turn.result(WAIT)
    assert [kind for kind, _, _ in course(turn)] == ["transcribe"]


def test_a_sound_that_is_none_fails_its_turn_and_nobody_is_asked(client: Client) -> None:
    turn = client.send(session_of(client), Audio(b"\xff\xfb\x90\x64" + b"x" * 5000))
    with pytest.raises(TurnFailed, match="audio_unreadable"):
        turn.result(WAIT)
    assert course(turn) == [("transcribe", 1, "failed")]


def test_a_turn_with_tools_is_answered_aloud_when_its_tools_are_done() -> None:
    import turnmill

    @turnmill.tool(effects="none")
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    with memory_client(tools=[weather]) as client:
        session = client.sessions.create(user_id="ada", provider="mock", tools=[weather])
        told = heard(calls=[(weather, {"city": "Rome"})])
        turn = client.send(session, Audio(wav(1.0)), reply_as="audio", metadata=told)
        reply = turn.result(WAIT)
        assert "sunny in Rome" in reply.text
        assert reply.audio is not None
        assert [kind for kind, _, _ in course(turn)] == ["transcribe", "send", "send", "speak"]


def test_a_streamed_reply_is_shown_once_and_ends_when_it_was_spoken(client: Client) -> None:
    turn = client.send(
        session_of(client), Audio(wav(1.0)), reply_as="audio", stream=True, metadata=heard()
    )
    shown = ""
    for event in turn.stream(timeout=WAIT):
        if event.kind in ("attempt_started", "attempt_restarted"):
            shown = ""
        shown += event.text or ""
    assert shown == turn.result(WAIT).text


def test_what_each_step_costs_counts_against_the_turns_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(
        '{"mock/m": {"call": 0.1}, "mock/mock-transcribe": {"minute": 0.6},'
        ' "mock/mock-speak": {"characters": 1000}}'
    )
    settings = Settings(database_url="sqlite://", prices=prices)
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada", provider="mock", model="m")
        turn = client.send(session, Audio(wav(2.0)), reply_as="audio", metadata=heard())
        reply = turn.result(WAIT)
        spoken = Decimal(len(reply.text)) * 1000 / 1_000_000
        assert [one.cost_usd for one in reply.attempts] == [Decimal("0.02"), Decimal("0.1"), spoken]
        assert reply.cost_usd == Decimal("0.12") + spoken
        dear = client.send(
            session, Audio(wav(2.0)), reply_as="audio", metadata=heard(), max_cost_usd="0.13"
        )
        with pytest.raises(TurnFailed, match="budget_exceeded"):
            dear.result(WAIT)
        assert [kind for kind, _, _ in course(dear)] == ["transcribe", "send", "speak"]


@pytest.mark.parametrize(
    "settings",
    [
        {"reply_as": "song"},
        {"audio": "loud"},
        {"transcribe": "openai/"},
        {"transcribe": 1},
        {"transcribe": "nobody/v1"},
        {"audio_model": "nobody"},
        {"audio_model": "/tts-1"},
        {"voice": ""},
        {"voice_language": "english"},
        {"keep_audio": "perhaps"},
        {"audio_format": "midi"},
    ],
)
def test_a_setting_that_nobody_understands_is_refused_at_the_door(
    client: Client, settings: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        session_of(client, **settings)


def test_a_key_stands_for_a_sound_whether_or_not_its_length_is_known_by_then(
    client: Client,
) -> None:
    session, sound = session_of(client), Audio(wav(7.0))
    first = client.send(session, sound, idempotency_key="spoken once", metadata=heard())
    first.result(WAIT)
    again = client.send(session, sound, idempotency_key="spoken once", metadata=heard())
    assert again.id == first.id
    assert not again.created


def test_a_caller_cannot_say_that_a_sound_has_words(client: Client) -> None:
    kept = client.attachments.put(wav(1.0), user_id="ada")
    part = Audio(id=str(kept.id), is_told=True)
    turn = client.send(session_of(client), [part], metadata=heard())
    turn.result(WAIT)
    assert turn.messages()[0].text == QUESTION


def test_a_model_reads_nothing_of_sounds_that_were_deleted_when_their_words_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with memory_client() as client:
        session = session_of(client, reply_as="audio")
        reply = client.send(session, Audio(wav(1.0)), metadata=heard()).result(WAIT)
        for one in client.attachments.list(user_id="ada"):
            client.attachments.delete(one.id)
        asked, real = [], MockProvider.send

        async def send(mock: MockProvider, request: Request, emit: Any = None) -> Any:
            asked.append(request)
            return await real(mock, request, emit)

        monkeypatch.setattr(MockProvider, "send", send)
        client.send(session, "And back?", reply_as="text").result(WAIT)
        assert [one.text for one in asked[0].history] == [QUESTION, reply.text]


@pytest.mark.usefixtures("elsewhere")
def test_who_hears_and_who_speaks_may_be_somebody_else(client: Client) -> None:
    session = session_of(client, transcribe="nobody/v1")
    with pytest.raises(TurnFailed, match="provider_unknown"):
        client.send(session, Audio(wav(1.0))).result(WAIT)
    session = session_of(client, transcribe="mock/v2", audio_model="mock/loud")
    turn = client.send(session, Audio(wav(1.0)), reply_as="audio")
    turn.result(WAIT)
    assert [one.model for one in turn.attempts()] == ["mock-transcribe", "m", "mock-speak"]


@pytest.mark.anyio
async def test_the_same_on_asyncio(tmp_path: Path) -> None:
    async with AsyncClient(settings=Settings(database_url="sqlite://")) as client:
        session = await client.sessions.create(user_id="ada", provider="mock", model="m")
        turn = await client.send(session, Audio(wav(1.0)), reply_as="audio", metadata=heard())
        reply = await turn.result(WAIT)
        assert reply.audio is not None
        await reply.audio.save(tmp_path / "answer.wav")
        assert (tmp_path / "answer.wav").stat().st_size > 44


def test_pieces_of_a_speech_that_failed_are_charged_and_those_of_the_next_try_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    double = AudioDouble()
    double.says = lambda _: "It is far. " * 1000
    spoken = {"reply_as": "audio", "audio_model": "openai/tts-1", "thread": "client"}
    with vendor_at_hand(monkeypatch, double) as vendor, sound_client() as client:
        client.budgets.set(user_id="ada", limit_usd=100)
        session = client.sessions.create(
            user_id="ada", provider="openai", model="gpt-5-mini", settings=spoken
        )
        vendor.double.meet("ok", "ok", "ok", "rate_limited_ms")
        turn = client.send(session, "How far is it?")
        turn.result(timeout=30)
        tries = turn.attempts()
        budget = client.budgets.get(user_id="ada")
    assert [one.outcome for one in tries] == ["called", "retrying", "succeeded"]
    assert tries[1].cost_usd == 2 * 4092 * Decimal(15) / 1_000_000
    assert budget.spent_usd == sum(one.cost_usd or 0 for one in tries)
    assert budget.reserved_usd == budget.estimated_usd == 0
