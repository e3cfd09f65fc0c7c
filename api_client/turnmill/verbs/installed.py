"""Names that a worker will look up: checked where they are said, before anything is paid for.

Where providers are installed beside the client; where only workers have them, the worker knows.
"""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from turnmill import wire
from turnmill.domain.errors import InvalidInput
from turnmill.domain.targets import targets_in
from turnmill.domain.voice import named

#: Settings that name who hears, or speaks, beside the session's own model: their groups.
_VOICES: Mapping[str, str] = {"transcribe": wire.TRANSCRIBERS, "audio_model": wire.SPEAKERS}


def refuse_strangers(settings: Any) -> None:
    """Raise InvalidInput for a target or a voice of these settings that is not installed.

    A session whose own provider is misspelt fails at once, and for nothing; a target would on the
    bad day, and a voice when the model has answered.
    """
    for one in targets_in(settings):
        refuse_provider(one.provider, what="fallback")
    for name in _VOICES.keys() & settings.keys():
        refuse_provider(named(settings[name]).provider, what=name, group=_VOICES[name])


def refuse_provider(provider: str, *, what: str, group: str = wire.PROVIDERS) -> None:
    """Raise InvalidInput where none of this name is installed, and others are."""
    known = frozenset(entry_points(group=group).names)
    if known and provider not in known:
        raise InvalidInput(
            f"{what}: no provider is named {provider!r} here",
            hint=f"installed are {', '.join(sorted(known))}",
        )


def refuse_function(name: str, *, what: str, group: str) -> None:
    """Raise InvalidInput where no package registers a function of this name, and workers would."""
    known = frozenset(entry_points(group=group).names)
    if name not in known and entry_points(group=wire.PROVIDERS).names:
        raise InvalidInput(
            f"{what}: no function is registered as {name!r} here",
            hint=f"registered are {', '.join(sorted(known)) or 'none'}, in the group {group}",
        )
