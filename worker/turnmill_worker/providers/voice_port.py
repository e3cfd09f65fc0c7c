"""What a transcriber and a speaker are: who turns sounds into words, and words into sounds."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol, runtime_checkable

from turnmill.domain.content import Audio
from turnmill_worker.providers.port import Request, Usage

#: Keeps a sound, given its bytes and its media type, and returns it as a part of a message.
Keep = Callable[[AsyncIterator[bytes], str], Awaitable[Audio]]

_UNCOUNTED = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """Something to be heard: what it is, and its bytes."""

    media_type: str  #: by its first bytes
    size: int  #: bytes
    duration: timedelta | None  #: None: nobody could tell
    chunks: Callable[[], AsyncIterator[bytes]] = field(repr=False)  #: its bytes, each time anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a vendor takes: what is beyond it is refused before anybody is asked."""

    media_types: frozenset[str] = frozenset()  #: of sounds; none: any
    bytes_max: int | None = None
    longest: timedelta | None = None
    characters_max: int | None = None  #: of words that are to be spoken


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """The words of a sound."""

    text: str = field(repr=False)
    #: tokens as the vendor counts them, 0 where it counts something else; in `said` its own words,
    #: of which `seconds` and `characters` have prices, too
    usage: Usage = _UNCOUNTED
    model: str = ""  #: that answered, for the price
    request_id: str = ""  #: to quote to the vendor's support


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Words that were spoken."""

    audio: Audio  #: as it was kept
    usage: Usage = _UNCOUNTED  #: see `Transcript`
    model: str = ""
    request_id: str = ""


@runtime_checkable
class Transcriber(Protocol):
    """One vendor that turns sounds into words.

    As a `Provider`, it has a timeout of its own, tries once, and raises
    `turnmill.domain.errors.ProviderError` only. Of the request it needs the model, and of its
    settings those that `docs/voice.md` lists.
    """

    name: str
    model: str  #: that is asked where a session names none

    def terms(self, request: Request) -> Terms:
        """Return what may be sent to the model that is asked, as the settings have it."""
        ...

    async def transcribe(self, request: Request, sound: Sound) -> Transcript:
        """Return the words of the sound."""
        ...

    async def aclose(self) -> None:
        """Close connections; the process ends."""
        ...


@runtime_checkable
class Speaker(Protocol):
    """One vendor that turns words into sounds. See `Transcriber`."""

    name: str
    model: str

    def terms(self, request: Request) -> Terms:
        """Return what may be sent to the model that is asked, as the settings have it."""
        ...

    async def speak(self, request: Request, text: str, keep: Keep) -> Speech:
        """Have the words spoken, and `keep` what comes, piece by piece."""
        ...

    async def aclose(self) -> None:
        """Close connections; the process ends."""
        ...
