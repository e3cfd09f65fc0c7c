"""Targets: who else may answer, where a session's own provider cannot.

They stand in the settings of a session, under `fallback`, in the order in which they are asked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from turnmill.domain.bounds import MOST_TARGETS, VOICE_SETTINGS
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.json_values import json_object

FALLBACK = "fallback"

#: What a session says once, whoever answers: a target has none of its own.
OF_SESSION = VOICE_SETTINGS | {
    *(FALLBACK, "layers", "max_tool_rounds", "on_context_full", "response_format", "tools")
}
_FIELDS = frozenset({"provider", "model", "settings"})
_HINT = 'fallback=["anthropic/claude-sonnet-4-5", {"provider": …, "model": …, "settings": {…}}]'


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A provider and a model that may answer."""

    provider: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Return how it is written and shown."""
        return name_of(self.provider, self.model)


def name_of(provider: str, model: str) -> str:
    """Return who answers in one word, as `fallback=` takes it."""
    return f"{provider}/{model}"


def targets_in(settings: object) -> Sequence[Target]:
    """Return the targets that stored settings name; what is none, whoever wrote it, is left out."""
    listed = settings.get(FALLBACK) if isinstance(settings, Mapping) else None
    if not isinstance(listed, list):
        return ()
    return [_stored(one) for one in listed[:MOST_TARGETS] if _is_target(one)]


def _is_target(one: object) -> bool:
    return isinstance(one, dict) and all(
        isinstance(one.get(name), str) and one[name] for name in ("provider", "model")
    )


def _stored(one: Mapping[str, Any]) -> Target:
    settings = one.get("settings")
    return Target(
        provider=one["provider"],
        model=one["model"],
        settings=settings if isinstance(settings, dict) else {},
    )


def targets_given(
    value: object, *, check: Callable[[object], Mapping[str, Any]]
) -> list[dict[str, Any]] | None:
    """Return targets as settings hold them; None where there are none. Raises InvalidInput.

    `check` is what settings have to pass.
    """
    if value is None:
        return None
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise InvalidInput("fallback must be a list of targets", hint=_HINT)
    found = [_target(one, check=check) for one in _listed(value)]
    if any(one in found[:n] for n, one in enumerate(found)):
        raise InvalidInput("fallback names a target twice", hint="none is asked twice in a row")
    return found or None


def _listed(value: Sequence[Any]) -> list[Any]:
    try:
        found = [*islice(value, MOST_TARGETS + 1)]
    except Exception as error:  # noqa: BLE001
        # The edge to a caller's own kind of list.
        raise InvalidInput(f"fallback cannot be read: {type(error).__name__}", hint=_HINT) from None
    if len(found) > MOST_TARGETS:
        raise InvalidInput(
            f"fallback names more than {MOST_TARGETS} targets", hint="whoever waits, waits for each"
        )
    return found


def _target(given: object, *, check: Callable[[object], Mapping[str, Any]]) -> dict[str, Any]:
    if isinstance(given, str):
        provider, slash, model = str.__str__(given).partition("/")
        if not (slash and provider and model):
            raise InvalidInput("a target of fallback is no provider/model", hint=_HINT)
        given = {"provider": provider, "model": model}
    if not isinstance(given, Mapping):
        raise InvalidInput("a target of fallback is neither a name nor an object", hint=_HINT)
    target = json_object(given, name="a target of fallback")
    if unknown := sorted(set(target) - _FIELDS):
        raise InvalidInput(f"a target of fallback has no {', '.join(unknown)[:100]}", hint=_HINT)
    found: dict[str, Any] = {
        name: check_name(target.get(name), name=f"{name} of a target of fallback")
        for name in ("provider", "model")
    }
    if "/" in found["provider"]:
        raise InvalidInput("the provider of a target has a / in it", hint=_HINT)
    settings = target.get("settings")
    return found if not settings else {**found, "settings": _settings(settings, check=check)}


def _settings(given: object, *, check: Callable[[object], Mapping[str, Any]]) -> dict[str, Any]:
    settings = dict(check(given))
    if refused := sorted(OF_SESSION.intersection(settings)):
        raise InvalidInput(
            f"a target of fallback has no {', '.join(refused)} of its own",
            hint="those of the session are for whoever answers",
        )
    return settings
