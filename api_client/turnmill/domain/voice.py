"""Voice: who turns sounds into words, and words into sounds, as a session's settings say it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from turnmill.domain.checks import check_name
from turnmill.domain.content import Audio, Message
from turnmill.domain.errors import InvalidInput

#: What attempts of a voice turn are, besides calls of its model.
TRANSCRIBE, SPEAK = "transcribe", "speak"
#: Who is asked where a session's own provider neither hears nor speaks.
OTHERWISE = "openai"
#: How a turn is answered that is spoken.
AS_AUDIO = "audio"

_HINT = '"openai/gpt-4o-mini-transcribe", or the name of a provider alone'


class VoiceTarget(NamedTuple):
    """Who is asked, and for which of its models; "" where the session leaves it open."""

    provider: str = ""
    model: str = ""


def named(value: object) -> VoiceTarget:
    """Return whom a setting names, as it is stored; what is no name names nobody."""
    if not isinstance(value, str):
        return VoiceTarget()
    provider, _, model = value.partition("/")
    return VoiceTarget(provider, model)


def named_given(value: object, *, name: str) -> str:
    """Return a setting that names a provider, and perhaps its model; raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must name who is asked", hint=_HINT)
    found = check_name(value, name=name)
    provider, slash, model = found.partition("/")
    if not provider or (slash and not model):
        raise InvalidInput(f"{name} is no provider, and no provider/model", hint=_HINT)
    return found


def is_answered_aloud(reply_as: str | None, settings: Mapping[str, Any]) -> bool:
    """Tell whether a turn is to be answered by a sound; what was said of the turn goes first."""
    return (reply_as or settings.get("reply_as")) == AS_AUDIO


def is_heard_as_it_is(settings: Mapping[str, Any]) -> bool:
    """Tell whether the model takes sounds itself."""
    return settings.get("audio") == "native"


def untold(messages: Sequence[Message]) -> tuple[int, int] | None:
    """Return where the first sound is that has no words yet: which message, and which part."""
    for n, message in enumerate(messages):
        if message.role == "user":
            for place, part in enumerate(message.parts):
                if isinstance(part, Audio) and not part.is_told:
                    return n, place
    return None
