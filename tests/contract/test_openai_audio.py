"""OpenAI's ears and mouth, against a double that refuses what the vendor refuses."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.doubles.openai_audio import AudioDouble
from tests.doubles.openai_requests import KEY
from tests.sounds import mp3, wav
from turnmill.domain.content import Audio, Message, Text
from turnmill.domain.errors import (
    FilesQuotaExceeded,
    MaybeSent,
    ProviderError,
    RateLimited,
    Rejected,
)
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.openai.audio import OpenAISpeaker, OpenAITranscriber
from turnmill_worker.providers.openai.spoken import pieces_of
from turnmill_worker.providers.port import Done, Request, used_by
from turnmill_worker.providers.voice_prices import VoicePrices
from turnmill_worker.providers.voices import Hearing, Speaking

PRICES = VoicePrices()

pytestmark = pytest.mark.anyio


@dataclass
class OneFile:
    """The one attachment that there is."""

    data: bytes
    media_type: str
    duration: timedelta | None = None

    async def info(self, part: Any) -> Any:
        @dataclass
        class Info:
            size: int
            media_type: str
            duration: timedelta | None

        return Info(len(self.data), self.media_type, self.duration)

    async def chunks(self, part: Any, *, start: int = 0) -> AsyncIterator[bytes]:
        for n in range(0, len(self.data), 1000):
            yield self.data[n : n + 1000]


class Kept:
    """What was spoken."""

    def __init__(self) -> None:
        self.data = b""
        self.media_type = ""

    async def __call__(
        self, request: Request, chunks: AsyncIterator[bytes], media_type: str
    ) -> Audio:
        self.data = b"".join([one async for one in chunks])
        self.media_type = media_type
        return Audio(id=str(uuid4()), media_type=media_type)

    async def measured(self, audio: Audio) -> None:
        """Nobody keeps it."""


@pytest.fixture
async def vendor(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AudioDouble]:
    async with AudioDouble() as double:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", double.base_url)
        yield double


def request(*parts: Any, model: str, files: Any = None, **settings: Any) -> Request:
    return Request(
        turn_id=TurnId(uuid4()),
        session_id=SessionId(uuid4()),
        attempt=1,
        fence=1,
        model=model,
        messages=[Message("user", parts)],
        settings=settings,
        files=files,
    )


async def hear(data: bytes, media_type: str, *, model: str = "whisper-1", **settings: Any) -> Done:
    ears = Hearing(OpenAITranscriber.from_env())
    files = OneFile(data, media_type)
    try:
        return await ears.send(request(Audio(id="a"), model=model, files=files, **settings))
    finally:
        await ears.aclose()


async def speak(text: str, kept: Kept, *, model: str = "tts-1", **settings: Any) -> Done:
    mouth = Speaking(OpenAISpeaker.from_env(), kept)
    try:
        return await mouth.send(request(Text(text), model=model, **settings))
    finally:
        await mouth.aclose()


async def refused(asking: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await asking
    return caught.value


async def test_a_sound_is_sent_as_a_file_in_a_form_and_its_words_come_back(
    vendor: AudioDouble,
) -> None:
    vendor.hears = "Is it far?"
    sound = wav(2.0)
    done = await hear(sound, "audio/wav", voice_language="en")
    assert done.text == "Is it far?"
    (heard,) = vendor.heard
    assert heard.data == sound
    assert heard.name == "sound.wav"
    assert heard.fields == {"model": "whisper-1", "response_format": "json", "language": "en"}


@pytest.mark.parametrize(
    ("model", "seconds", "cost"),
    [
        ("whisper-1", 60.0, Decimal("0.006")),
        # 600 tokens of sound and 4 of words in, 12 out.
        ("gpt-4o-transcribe", 60.0, Decimal("0.00373")),
    ],
)
async def test_what_is_heard_costs_what_the_vendor_counts(
    vendor: AudioDouble, model: str, seconds: float, cost: Decimal
) -> None:
    done = await hear(wav(seconds), "audio/wav", model=model)
    assert PRICES.price("openai", model, done.usage) == cost
    assert PRICES.source("openai", model, "").startswith("genai-prices")


async def test_a_server_that_counts_nothing_is_priced_by_the_sounds_own_length(
    vendor: AudioDouble,
) -> None:
    vendor.tells_usage = False
    done = await hear(wav(30.0), "audio/wav")
    assert PRICES.price("openai", "whisper-1", done.usage) == Decimal("0.003")
    done = await hear(wav(30.0), "audio/wav", model="gpt-4o-transcribe")
    assert PRICES.price("openai", "gpt-4o-transcribe", done.usage) is None, "unknown, never 0"


@pytest.mark.parametrize(
    ("data", "media_type", "code"),
    [
        (b"%PDF-1.7 and more", "application/pdf", "audio_unsupported"),
        (bytes(26 * 2**20), "audio/mpeg", "audio_too_large"),
        (wav(1600.0, rate=100), "audio/wav", "audio_too_long"),
        (wav(1.0)[:20], "audio/wav", "audio_unreadable"),
    ],
)
async def test_what_the_vendor_would_refuse_is_refused_before_it_is_asked(
    vendor: AudioDouble, data: bytes, media_type: str, code: str
) -> None:
    error = await refused(hear(data, media_type, model="gpt-4o-transcribe"))
    assert isinstance(error, Rejected)
    assert error.error_code == code
    assert not vendor.calls


async def test_a_sound_that_only_the_vendor_can_read_is_refused_in_its_words(
    vendor: AudioDouble,
) -> None:
    error = await refused(hear(b"no sound at all", "audio/webm"))
    assert isinstance(error, Rejected)
    assert "could not be decoded" in error.detail


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
async def test_words_are_spoken_and_kept_as_they_come(vendor: AudioDouble, model: str) -> None:
    kept = Kept()
    done = await speak("It is not far at all.", kept, model=model, voice="coral")
    (audio,) = done.parts
    assert isinstance(audio, Audio)
    assert audio.is_told
    assert kept.data == mp3(len("It is not far at all.") * 0.06)
    assert kept.media_type == "audio/mpeg"
    (body,) = vendor.spoken
    assert (body["voice"], body["response_format"]) == ("coral", "mp3")
    assert PRICES.price("openai", model, done.usage) is not None


async def test_speech_costs_by_characters_or_by_tokens_as_its_model_counts(
    vendor: AudioDouble,
) -> None:
    done = await speak("x" * 1000, Kept())
    assert PRICES.price("openai", "tts-1", done.usage) == Decimal("0.015")
    done = await speak("x" * 1000, Kept(), model="gpt-4o-mini-tts")
    tokens = (251 * Decimal("0.6") + 50 * Decimal(12)) / 1_000_000
    assert PRICES.price("openai", "gpt-4o-mini-tts", done.usage) == tokens
    vendor.streams_events = False
    done = await speak("x" * 1000, Kept(), model="gpt-4o-mini-tts")
    assert PRICES.price("openai", "gpt-4o-mini-tts", done.usage) is None, "unknown, never 0"


async def test_a_speech_is_as_long_as_it_takes_to_be_heard(vendor: AudioDouble) -> None:
    done = await speak("x" * 100, Kept(), audio_format="wav")
    (audio,) = done.parts
    assert isinstance(audio, Audio)
    assert audio.duration_ms == 6000


@pytest.mark.parametrize(
    ("model", "fault"),
    [("tts-1", "drop"), ("gpt-4o-mini-tts", "drop"), ("gpt-4o-mini-tts", "stream_cut")],
)
async def test_half_a_speech_is_none(vendor: AudioDouble, model: str, fault: str) -> None:
    vendor.meet(fault)
    error = await refused(speak("x" * 500, Kept(), model=model))
    assert isinstance(error, MaybeSent)


async def test_a_limit_of_the_vendors_is_a_limit(vendor: AudioDouble) -> None:
    vendor.meet("rate_limited", "rate_limited")
    for asking in (hear(wav(1.0), "audio/wav"), speak("Hello", Kept())):
        error = await refused(asking)
        assert isinstance(error, RateLimited)
        assert error.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
async def test_a_long_reply_is_spoken_in_pieces_that_are_one_sound(
    vendor: AudioDouble, model: str
) -> None:
    text, kept = "It is far. " * 1000, Kept()
    done = await speak(text, kept, model=model)
    said = [one["input"] for one in vendor.spoken]
    assert len(said) == 3
    assert "".join(said) == text
    assert all(one.endswith(". ") for one in said), "cut where a reader takes breath"
    assert kept.data == b"".join(mp3(len(one) * 0.06) for one in said)
    cost = PRICES.price("openai", model, done.usage)
    tokens = sum(Decimal(len(one) // 4 + 1) * Decimal("0.6") + 600 for one in said)
    expected = {"tts-1": Decimal(len(text) * 15), "gpt-4o-mini-tts": tokens}
    assert cost == expected[model] / 1_000_000


async def test_a_piece_that_is_refused_leaves_no_half_of_a_speech(vendor: AudioDouble) -> None:
    vendor.meet("ok", "rate_limited")
    assert isinstance(await refused(speak("It is far. " * 1000, Kept())), RateLimited)


@pytest.mark.parametrize("model", ["tts-1", "gpt-4o-mini-tts"])
async def test_pieces_before_one_that_is_refused_are_paid_for(
    vendor: AudioDouble, model: str
) -> None:
    vendor.meet("ok", "ok", "rate_limited")
    used = used_by(await refused(speak("It is far. " * 1000, Kept(), model=model)))
    assert used is not None
    first, second, _ = pieces_of("It is far. " * 1000, most=4096)
    tokens = sum(Decimal(len(one) // 4 + 1) * Decimal("0.6") + 600 for one in (first, second))
    cost = {"tts-1": Decimal(len(first + second) * 15), "gpt-4o-mini-tts": tokens}[model]
    assert PRICES.price("openai", used.model, used.usage) == cost / 1_000_000


class Full(Kept):
    """There is no room for it: that shows when all has come."""

    async def __call__(
        self, request: Request, chunks: AsyncIterator[bytes], media_type: str
    ) -> Audio:
        await super().__call__(request, chunks, media_type)
        raise FilesQuotaExceeded("full")


async def test_a_speech_that_nobody_can_keep_is_paid_for(vendor: AudioDouble) -> None:
    error = await refused(speak("It is far.", Full()))
    assert error.error_code == FilesQuotaExceeded.code
    used = used_by(error)
    assert used is not None
    assert PRICES.price("openai", "tts-1", used.usage) == Decimal(150) / 1_000_000


async def test_of_a_speech_that_was_cut_the_estimate_is_all_that_is_told(
    vendor: AudioDouble,
) -> None:
    vendor.meet("ok", "drop")
    error = await refused(speak("It is far. " * 1000, Kept()))
    assert isinstance(error, MaybeSent)
    assert used_by(error) is None


@pytest.mark.parametrize(("length", "form"), [(4097, "wav"), (8 * 4096 + 1, "mp3")])
async def test_a_reply_that_is_too_long_to_be_spoken_is_refused_before_it_is_paid(
    vendor: AudioDouble, length: int, form: str
) -> None:
    error = await refused(speak("x" * length, Kept(), audio_format=form))
    assert error.error_code == "speech_too_long"
    assert not vendor.calls


async def test_the_most_that_a_step_may_cost_is_no_less_than_what_it_costs(
    vendor: AudioDouble,
) -> None:
    asked = request(Audio(id="a", duration_ms=60_000), model="whisper-1")
    files: Any = OneFile(wav(60.0), "audio/wav")
    asked = replace(asked, files=files)
    ears = Hearing(OpenAITranscriber.from_env())
    for model in ("whisper-1", "gpt-4o-transcribe"):
        of_model = replace(asked, model=model)
        done = await ears.send(of_model)
        spent = PRICES.price("openai", model, done.usage)
        most = PRICES.price("openai", model, ears.most(of_model, ()))
        assert spent is not None and most is not None
        assert spent <= most
    await ears.aclose()
