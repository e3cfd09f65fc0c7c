"""OpenAI's endpoints for sounds: https://developers.openai.com/api/docs/guides/speech-to-text.

And https://developers.openai.com/api/docs/guides/text-to-speech.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from openai import AsyncOpenAI

from turnmill.domain.content import Audio
from turnmill.domain.errors import MaybeSent, ProviderError
from turnmill_worker.providers.answers import id_in, read
from turnmill_worker.providers.failures import raise_error_inside
from turnmill_worker.providers.http import (
    DEFAULT_TIMEOUT,
    Incoming,
    RawAnswer,
    Vendor,
    encoded,
    headers_of,
)
from turnmill_worker.providers.keys import account_of
from turnmill_worker.providers.multipart import FormFile, form
from turnmill_worker.providers.openai.account import sdk_from_env
from turnmill_worker.providers.openai.refusals import REQUEST_ID, refusal_of
from turnmill_worker.providers.openai.spoken import Spoken, pieces_of, usage_of
from turnmill_worker.providers.parameters import setting_refused, timeout_of
from turnmill_worker.providers.port import Done, Request, Usage
from turnmill_worker.providers.untrusted import Unreadable, count, mapping, name
from turnmill_worker.providers.voice_port import Keep, Sound, Speech, Terms, Transcript

TRANSCRIPTIONS, SPEECH = "audio/transcriptions", "audio/speech"

#: What the vendor takes, and the ending by which it knows each.
_ENDINGS: Mapping[str, str] = MappingProxyType(
    {
        "audio/flac": "flac",
        "audio/mpeg": "mp3",
        "audio/mp4": "m4a",
        "audio/ogg": "ogg",
        "audio/wav": "wav",
        "audio/webm": "webm",
    }
)
_MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "wav": "audio/wav",
        "opus": "audio/ogg",
        "flac": "audio/flac",
    }
)
_BYTES_MAX = 25 * 2**20
_LONGEST = timedelta(seconds=1500)  #: of the models that count tokens
_CHARACTERS_MAX = 4096
#: Forms of which one behind the other is a sound again, and how many pieces that may be.
_JOINED = frozenset({"mp3"})
_PIECES_MAX = 8


class _Account(NamedTuple):
    """A vendor, and who pays there."""

    sdk: AsyncOpenAI
    vendor: Vendor
    account: str

    @classmethod
    def from_env(cls) -> Self:
        sdk = sdk_from_env()
        vendor = Vendor(
            base_url=str(sdk.base_url),
            headers=lambda: headers_of(sdk.default_headers, sdk.auth_headers),
        )
        account = account_of(str(sdk.base_url), sdk.api_key, sdk.organization, sdk.project)
        return cls(sdk, vendor, account)

    async def aclose(self) -> None:
        await self.vendor.aclose()
        await self.sdk.close()


class _OfAccount:
    """What is asked of a vendor in somebody's name."""

    def __init__(self, account: _Account) -> None:
        self._account = account
        self.account = account.account

    @classmethod
    def from_env(cls) -> Self:
        """Read OPENAI_API_KEY and OPENAI_BASE_URL, as the provider does."""
        return cls(_Account.from_env())

    async def aclose(self) -> None:
        await self._account.aclose()


class OpenAITranscriber(_OfAccount):
    """`/v1/audio/transcriptions`, of OpenAI or of a server that has it."""

    name = "openai"
    model = "gpt-4o-mini-transcribe"

    def terms(self, request: Request) -> Terms:
        longest = None if request.model.startswith("whisper") else _LONGEST
        return Terms(media_types=frozenset(_ENDINGS), bytes_max=_BYTES_MAX, longest=longest)

    async def transcribe(self, request: Request, sound: Sound) -> Transcript:
        ending = _ENDINGS.get(sound.media_type, "bin")
        file = FormFile(
            name=f"sound.{ending}",  # never the user's own
            media_type=sound.media_type,
            size=sound.size,
            chunks=sound.chunks,
        )
        fields = {"model": request.model, "response_format": "json"}
        if language := request.settings.get("voice_language"):
            fields["language"] = str(language)
        answer = await self._account.vendor.call(
            "POST",
            TRANSCRIPTIONS,
            form(fields, file=file),
            within=timeout_of(request.settings, default=DEFAULT_TIMEOUT),
        )
        if not answer.accepted:
            raise refusal_of(answer)

        def transcript(payload: Mapping[str, Any]) -> Transcript:
            raise_error_inside(payload)
            text = payload.get("text")
            if not isinstance(text, str):
                raise Unreadable
            return Transcript(
                text=text.strip(),
                usage=_heard(payload.get("usage"), sound),
                model=name(payload.get("model")) or request.model,
                request_id=id_in(answer, REQUEST_ID),
            )

        return await read(answer, transcript, request_id=REQUEST_ID)


class OpenAISpeaker(_OfAccount):
    """`/v1/audio/speech`, of OpenAI or of a server that has it."""

    name = "openai"
    model = "gpt-4o-mini-tts"

    def terms(self, request: Request) -> Terms:
        joined = _form_of(request) in _JOINED
        return Terms(characters_max=_PIECES_MAX * _CHARACTERS_MAX if joined else _CHARACTERS_MAX)

    async def speak(self, request: Request, text: str, keep: Keep) -> Speech:
        """Have it spoken; more than the vendor takes at once is spoken in pieces, and joined."""
        form_ = _form_of(request)
        first, *others = pieces_of(text, most=_CHARACTERS_MAX)
        spoken = [Spoken(first)]
        kept: list[Audio] = []

        async def take(incoming: Incoming) -> RawAnswer:
            chunks = _whole(spoken[0].pieces(incoming), incoming)
            joined = _joined(chunks, self._further(request, others, spoken))
            kept.append(await keep(joined, _MEDIA_TYPES[form_]))
            return RawAnswer(incoming.status, incoming.headers, b"", incoming.framed)

        try:
            answer = await self._account.vendor.stream(
                SPEECH, _speech(request, first), take, within=_timeout(request)
            )
        except ProviderError as error:
            made = [one for one in spoken if one.is_whole]
            if made and (error.answered or not isinstance(error, MaybeSent)):
                # They are paid for, whatever became of the others, or of all.
                error.used = Done(text="", usage=usage_of(made), model=request.model)
            raise
        if not answer.accepted:
            raise refusal_of(answer)
        return Speech(
            audio=kept[0],
            usage=usage_of(spoken),
            model=request.model,
            request_id=id_in(answer, REQUEST_ID),
        )

    async def _further(
        self, request: Request, pieces: Sequence[str], spoken: list[Spoken]
    ) -> AsyncIterator[bytes]:
        """Yield what further pieces sound like, each once the one before was kept."""
        for text in pieces:
            answer = await self._account.vendor.call(
                "POST", SPEECH, _speech(request, text), within=_timeout(request)
            )
            if not answer.accepted:
                raise refusal_of(answer)
            spoken.append(Spoken(text))
            yield spoken[-1].whole(answer)


def _form_of(request: Request) -> str:
    form_ = str(request.settings.get("audio_format") or "mp3")
    if form_ not in _MEDIA_TYPES:
        raise setting_refused("audio_format", "it must be " + ", ".join(_MEDIA_TYPES))
    return form_


def _timeout(request: Request) -> timedelta:
    return timeout_of(request.settings, default=DEFAULT_TIMEOUT)


def _speech(request: Request, text: str) -> bytes:
    body: dict[str, Any] = {
        "model": request.model,
        "input": text,
        "voice": str(request.settings.get("voice") or "alloy"),
        "response_format": _form_of(request),
    }
    if _counts_tokens(request.model):
        body["stream_format"] = "sse"  # only so it says what it has counted
    return encoded(body)


async def _joined(
    first: AsyncIterator[bytes], others: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    async for chunk in first:
        yield chunk
    async for chunk in others:
        yield chunk


def _counts_tokens(model: str) -> bool:
    return not model.startswith("tts")


async def _whole(pieces: AsyncIterator[bytes], incoming: Incoming) -> AsyncIterator[bytes]:
    """Yield the pieces; what ends with the connection alone may be half of it."""
    some = False
    async for piece in pieces:
        some = True
        yield piece
    if not some or not incoming.framed:
        raise MaybeSent("truncated")


def _heard(said: object, sound: Sound) -> Usage:
    """Return what was counted: tokens, or seconds; where neither is said, the sound's own."""
    told = mapping(said)
    if told.get("type") == "tokens":
        return Usage(
            input_tokens=count(told.get("input_tokens")),
            output_tokens=count(told.get("output_tokens")),
            said=(dict(told),),
        )
    seconds = told.get("seconds")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
        if sound.duration is None:
            return Usage()
        seconds = round(sound.duration.total_seconds(), 3)
    return Usage(input_tokens=0, output_tokens=0, said=({"type": "duration", "seconds": seconds},))
