"""Transcribers and speakers as providers, which the layers around a call know; where they are."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Generic, Protocol, TypeVar

from turnmill import wire
from turnmill.domain.content import Audio, Kind, Message, Text
from turnmill.domain.errors import (
    ProviderError,
    Rejected,
    StoreError,
    TurnmillError,
)
from turnmill_worker.providers import sounds
from turnmill_worker.providers.installed import Installed
from turnmill_worker.providers.port import Done, Emit, Request, Unknowable, Usage
from turnmill_worker.providers.voice_port import Sound, Speaker, Terms, Transcriber

V = TypeVar("V", bound=Transcriber | Speaker)

_HEARD: frozenset[Kind] = frozenset({Audio, Text})
#: What is reserved for a minute of sound, in tokens: several times what vendors count.
_TOKENS_A_MINUTE = 3_000
_MOST_WORDS = 4_000
_LONGEST_MINUTES = 120


class KeepSpeech(Protocol):
    """Keeps what was spoken in a turn, as an attachment of its user's."""

    async def __call__(
        self, request: Request, chunks: AsyncIterator[bytes], media_type: str
    ) -> Audio:
        """Return it as a part. Raises TurnmillError where it cannot be kept."""
        ...

    async def measured(self, audio: Audio) -> None:
        """Note how long it takes."""
        ...


class Hearing:
    """A transcriber, as a provider that answers with words."""

    accepts = _HEARD

    def __init__(self, transcriber: Transcriber) -> None:
        self.name = transcriber.name
        self.model = transcriber.model
        self._transcriber = transcriber

    async def send(self, request: Request, emit: Emit | None = None) -> Done:
        part = _sound_in(request)
        files = request.files
        if files is None:
            raise Rejected("attachment_unknown", hint="send sounds as attachments")
        terms = self._transcriber.terms(request)
        sound = await sounds.sound_of(files, part)
        _refuse_sound(sound, terms)
        sound = await sounds.timed(sound)
        _refuse_long(sound, terms)
        found = await self._transcriber.transcribe(request, sound)
        return Done(
            text=found.text,
            usage=found.usage,
            model=found.model or request.model,
            request_id=found.request_id,
        )

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        """Return what it may come to: by the sound's length, or the longest that is taken."""
        duration_ms = _sound_in(request).duration_ms
        minutes = duration_ms / 60_000 if duration_ms else _LONGEST_MINUTES
        told = round(minutes * _TOKENS_A_MINUTE) + 1
        said = {
            "seconds": round(minutes * 60) + 1,
            "input_token_details": {"audio_tokens": told},
        }
        return Usage(input_tokens=told, output_tokens=_MOST_WORDS, said=(said,))

    async def check(self, request: Request) -> Unknowable:
        return Unknowable()

    async def close(self, thread_ref: str) -> None:
        """Do nothing: nothing is kept."""

    async def aclose(self) -> None:
        await self._transcriber.aclose()


class Speaking:
    """A speaker, as a provider that answers with a sound."""

    accepts = _HEARD

    def __init__(self, speaker: Speaker, keep: KeepSpeech | None) -> None:
        self.name = speaker.name
        self.model = speaker.model
        self._speaker = speaker
        self._keep = keep

    async def send(self, request: Request, emit: Emit | None = None) -> Done:
        keep, text = self._keep, request.text
        if keep is None:
            raise Rejected("files_unavailable", hint="this process keeps no files")
        terms = self._speaker.terms(request)
        if terms.characters_max is not None and len(text) > terms.characters_max:
            raise Rejected(
                "speech_too_long",
                detail=f"{len(text)} characters, of {terms.characters_max} at the most",
                hint="ask for shorter replies, or read this one: `turnmill turns show`",
            )
        spoken = await self._speaker.speak(request, text, partial(_kept, keep, request))
        return Done(
            parts=(replace(spoken.audio, is_told=True),),
            usage=spoken.usage,
            model=spoken.model or request.model,
            request_id=spoken.request_id,
        )

    def most(self, request: Request, thread: Sequence[Message]) -> Usage:
        """Return what it may come to: no voice takes longer than a second for three characters."""
        characters = len(request.text)
        said = {"characters": characters, "seconds": characters // 3 + 1}
        spoken = characters * _TOKENS_A_MINUTE // 180 + 1
        return Usage(input_tokens=characters + 1, output_tokens=spoken, said=(said,))

    async def check(self, request: Request) -> Unknowable:
        return Unknowable()

    async def close(self, thread_ref: str) -> None:
        """Do nothing: nothing is kept."""

    async def aclose(self) -> None:
        await self._speaker.aclose()


Voice = TypeVar("Voice", Hearing, Speaking)


class Voices(Generic[V, Voice]):
    """The transcribers, or the speakers, of this process, one of each, as providers."""

    def __init__(self, installed: Installed[V], made: Callable[[V], Voice]) -> None:
        self._installed = installed
        self._made: Callable[[V], Voice] = made
        self._voices: dict[str, Voice] = {}

    @cached_property
    def names(self) -> frozenset[str]:
        """All names that are installed."""
        return frozenset(self._installed.names())

    def get(self, name: str) -> Voice:
        """Return the one of this name. Raises ProviderUnknown, KeyMissing or Rejected."""
        found = self._voices.get(name)
        if found is None:
            found = self._voices.setdefault(name, self._made(self._installed.get(name)))
        return found

    async def aclose(self) -> None:
        """Close the connections of all that were used."""
        await self._installed.aclose()


def transcribers() -> Voices[Transcriber, Hearing]:
    """Return those that are installed."""
    kind: type[Transcriber] = Transcriber  # type: ignore[type-abstract]
    return Voices(Installed(wire.TRANSCRIBERS, kind, noun="transcriber"), Hearing)


def speakers(keep: KeepSpeech | None) -> Voices[Speaker, Speaking]:
    """Return those that are installed; what they speak is kept."""
    kind: type[Speaker] = Speaker  # type: ignore[type-abstract]
    installed = Installed(wire.SPEAKERS, kind, noun="speaker")
    return Voices(installed, lambda one: Speaking(one, keep))


async def _kept(
    keep: KeepSpeech, request: Request, chunks: AsyncIterator[bytes], media_type: str
) -> Audio:
    try:
        with sounds.Copy() as copy:
            audio = await keep(request, copy.of(chunks), media_type)
            audio = await copy.timed(audio, media_type)
        if audio.duration_ms:
            with suppress(StoreError):
                await keep.measured(audio)
        return audio
    except StoreError:
        raise  # it passes, or so it is hoped: the step is tried again
    except ProviderError:
        raise
    except TurnmillError as error:
        refused = Rejected(error.code, hint=error.hint)  # a quota, say
    raise refused


def _sound_in(request: Request) -> Audio:
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Audio):
                return part
    raise Rejected("unsupported_part", detail="no sound is to be heard")


def _refuse_sound(sound: Sound, terms: Terms) -> None:
    """Raise Rejected for a sound that the vendor would refuse: nothing was sent."""
    if terms.media_types and sound.media_type not in terms.media_types:
        raise Rejected(
            "audio_unsupported",
            detail=f"a sound of the type {sound.media_type}",
            hint="known are " + ", ".join(sorted(terms.media_types)),
        )
    if terms.bytes_max is not None and sound.size > terms.bytes_max:
        raise Rejected(
            "audio_too_large",
            detail=f"{sound.size} bytes, of {terms.bytes_max} at the most",
            hint="send it in parts, or as mp3",
        )


def _refuse_long(sound: Sound, terms: Terms) -> None:
    longest = terms.longest
    if longest is not None and sound.duration is not None and sound.duration > longest:
        raise Rejected(
            "audio_too_long",
            detail=f"{sound.duration.total_seconds():.0f} s, of {longest.total_seconds():.0f}",
            hint="send it in parts",
        )
