"""Which providers there are: entry points, loaded by name when a turn first needs one."""

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from threading import Lock
from types import MappingProxyType

from turnmill.domain.errors import (
    ConfigurationError,
    KeyMissing,
    ProviderError,
    ProviderUnknown,
    Rejected,
)
from turnmill.forking import in_child
from turnmill_worker.providers.base import Provider

GROUP = "turnmill.providers"

#: What has to be in the environment. Known here, so that an SDK is imported only to be used.
KEYS: Mapping[str, str] = MappingProxyType(
    {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
)


class ProviderRegistry:
    """The providers of this process, one instance of each."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._loaded: dict[str, Provider] = {}
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Keep the providers, whose connections begin anew themselves: see `turnmill.forking`."""
        self._lock = Lock()

    def names(self) -> tuple[str, ...]:
        """Return all names that are installed, whether or not their keys are set."""
        return tuple(sorted(self._entry_points))

    def missing_key(self, name: str) -> str | None:
        """Return the variable that has to be set before `name` can be used, or None.

        None is also the answer for a third party's provider: it says itself what it lacks.
        """
        variable = KEYS.get(name)
        return variable if variable and not self._environ.get(variable) else None

    def configured(self) -> tuple[str, ...]:
        """Return the names that lack no key, without importing anything."""
        return tuple(name for name in self.names() if self.missing_key(name) is None)

    def get(self, name: str) -> Provider:
        """Return the provider, importing it on first use.

        Raises ProviderUnknown, KeyMissing, or Rejected when its package is broken. A failure is
        not remembered.
        """
        provider = self._loaded.get(name)
        if provider is None:
            with self._lock:
                provider = self._loaded.get(name) or self._load(name)
                self._loaded[name] = provider
        return provider

    def preload(self) -> Mapping[str, ProviderError]:
        """Import all that are configured, and return what stands in the way of the others.

        For the start of a worker, so that no turn waits for an SDK; and for a diagnosis.
        """
        failures: dict[str, ProviderError] = {}
        for name in self.configured():
            try:
                self.get(name)
            except ProviderError as error:
                failures[name] = error
        return failures

    async def aclose(self) -> None:
        """Close the connections of all that were used."""
        for provider in self._loaded.values():
            await provider.aclose()

    @cached_property
    def _entry_points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        found = entry_points(group=GROUP)
        return {name: tuple(found.select(name=name)) for name in found.names}

    def _load(self, name: str) -> Provider:
        candidates = {point.value: point for point in self._entry_points.get(name, ())}
        if not candidates:
            known = ", ".join(self.names())
            raise ProviderUnknown(detail=f"no provider is named {name!r}; installed are {known}")
        if len(candidates) > 1:
            raise Rejected(
                "provider_ambiguous",
                detail=f"{name!r} is registered by " + " and ".join(sorted(candidates)),
                hint="uninstall one of the packages, or rename its entry point",
            )
        if variable := self.missing_key(name):
            raise KeyMissing(
                detail=f"{variable} is not set in the environment of this worker",
                hint=f"set {variable} in the environment of the worker and restart it",
            )
        return _build(name, next(iter(candidates.values())))


def _build(name: str, point: EntryPoint) -> Provider:
    try:
        from_env: Callable[[], Provider] = point.load()
        provider = from_env()
    except ProviderError:
        raise
    except ConfigurationError as error:
        raise Rejected(error.code, detail=str(error), hint=error.hint) from None
    except Exception as error:
        raise _broken(name, point, f"{type(error).__name__}: {error}") from error
    if not isinstance(provider, Provider):
        raise _broken(name, point, f"it made a {type(provider).__name__}, which is no Provider")
    return provider


def _broken(name: str, point: EntryPoint, what: str) -> Rejected:
    return Rejected(
        "provider_broken",
        detail=f"provider {name!r} ({point.value}) cannot be loaded: {what}",
        hint="repair or uninstall the package; it must register a callable that makes a Provider",
    )
