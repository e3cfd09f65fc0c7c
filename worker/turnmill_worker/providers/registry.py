"""Which providers there are: entry points, loaded by name when a turn first needs one."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from threading import Lock
from types import MappingProxyType

from turnmill import wire
from turnmill.domain.errors import (
    ConfigurationError,
    KeyMissing,
    ProviderError,
    ProviderUnknown,
    Rejected,
)
from turnmill.forking import in_child
from turnmill.settings import ALLOW_MOCK, mock_allowed
from turnmill_worker.providers.boundary import error_of, name_of
from turnmill_worker.providers.calls import Call
from turnmill_worker.providers.fields import MAX_DETAIL
from turnmill_worker.providers.port import Provider

logger = logging.getLogger("turnmill.providers")

_CLOSE_WITHIN = timedelta(seconds=2)

GROUP = wire.PROVIDERS
MOCK = "mock"

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

        In production the mock has one, too: what it says would pass for a reply. None is also the
        answer for a third party's provider: it says itself what it lacks.
        """
        if name == MOCK:
            return None if mock_allowed(self._environ) else ALLOW_MOCK
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

    def account_of(self, name: str) -> str:
        """Return under which account this process calls it, as far as it is loaded; "" for none.

        A provider tells by its attribute `account`: some digits of a hash of its key.
        """
        account = getattr(self._loaded.get(name), "account", "")
        return account if isinstance(account, str) else ""

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
        await asyncio.gather(*(_closed(provider) for provider in self._loaded.values()))

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
        from_env: Callable[[], object] = point.load()
        provider = from_env()
        if isinstance(provider, Provider):
            return provider
        what = f"it made a {name_of(provider)}, which is no Provider"
    except ProviderError as error:
        raise error_of(error) from None
    except ConfigurationError as error:
        raise Rejected(error.code, detail=str(error), hint=error.hint) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001
        # The edge to a package of somebody's, which may even want to exit while it is imported.
        what = _told(error)
    raise _broken(name, point, what)


def _told(error: BaseException) -> str:
    try:
        return f"{name_of(error)}: {error}"[:MAX_DETAIL]
    except Exception:  # noqa: BLE001
        return name_of(error)  # its words cannot be had


async def _closed(provider: Provider) -> None:
    """Close a provider; one that breaks or hangs keeps neither the others nor the process."""
    closing = Call(_close(provider))
    timer = asyncio.get_running_loop().call_later(_CLOSE_WITHIN.total_seconds(), closing.close)
    await closing.wait()
    timer.cancel()


async def _close(provider: Provider) -> None:
    try:
        await provider.aclose()
    except BaseException as error:  # noqa: BLE001
        logger.error("a provider cannot be closed: %s", name_of(error))


def _broken(name: str, point: EntryPoint, what: str) -> Rejected:
    return Rejected(
        "provider_broken",
        detail=f"provider {name!r} ({point.value}) cannot be loaded: {what}",
        hint="repair or uninstall the package; it must register a callable that makes a Provider",
    )
