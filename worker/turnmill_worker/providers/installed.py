"""What packages register in a group of entry points, loaded by name when a turn first needs it."""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from threading import Lock
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

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

logger = logging.getLogger("turnmill.providers")

_CLOSE_WITHIN = timedelta(seconds=2)

MOCK = "mock"

#: What has to be in the environment. Known here, so that an SDK is imported only to be used.
KEYS: Mapping[str, str] = MappingProxyType(
    {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
)


class Closable(Protocol):
    """What keeps connections."""

    async def aclose(self) -> None:
        """Close them."""
        ...


T = TypeVar("T", bound=Closable)


class Installed(Generic[T]):
    """What is installed in a group, one instance of each in this process."""

    def __init__(
        self, group: str, kind: type[T], *, noun: str, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Find them in `group`; each has to make a `kind`, and is called a `noun` in errors."""
        self._group, self._kind, self._noun = group, kind, noun
        self._environ = environ
        self._loaded: dict[str, T] = {}
        self.start_afresh()
        in_child(self)

    def start_afresh(self) -> None:
        """Keep what is loaded: its connections begin anew themselves. See `turnmill.forking`."""
        self._lock = Lock()

    def names(self) -> tuple[str, ...]:
        """Return all names that are installed, whether or not their keys are set."""
        return tuple(sorted(self._entry_points))

    def missing_key(self, name: str) -> str | None:
        """Return the variable that has to be set before `name` can be used, or None.

        In production the mock has one, too: what it says would pass for a reply. None is also the
        answer for a third party's: it says itself what it lacks.
        """
        if name == MOCK:
            return None if mock_allowed(self._environ) else ALLOW_MOCK
        variable = KEYS.get(name)
        return variable if variable and not self._environ.get(variable, "").strip() else None

    def get(self, name: str) -> T:
        """Return the one of this name, importing it on first use.

        Raises ProviderUnknown, KeyMissing, or Rejected when its package is broken. A failure is
        not remembered.
        """
        found = self._loaded.get(name)
        if found is None:
            with self._lock:
                found = self._loaded.get(name) or self._load(name)
                self._loaded[name] = found
        return found

    async def aclose(self) -> None:
        """Close the connections of all that were used."""
        await asyncio.gather(*(_closed(one, self._noun) for one in self._loaded.values()))

    @cached_property
    def _entry_points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        found = entry_points(group=self._group)
        return {name: tuple(found.select(name=name)) for name in found.names}

    def _load(self, name: str) -> T:
        candidates = {point.value: point for point in self._entry_points.get(name, ())}
        if not candidates:
            known = ", ".join(self.names())
            raise ProviderUnknown(
                detail=f"no {self._noun} is named {name!r}; installed are {known}",
                hint=f"a package registers it in the entry point group {self._group}",
            )
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
        return self._built(name, next(iter(candidates.values())))

    def _built(self, name: str, point: EntryPoint) -> T:
        try:
            from_env: Callable[[], object] = point.load()
            made = from_env()
            if isinstance(made, self._kind):
                return made
            what = f"it made a {name_of(made)}, which is no {self._kind.__name__}"
        except ProviderError as error:
            raise error_of(error) from None
        except ConfigurationError as error:
            raise Rejected(error.code, detail=str(error), hint=error.hint) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            # The edge to a package of somebody's, which may even want to exit while it is imported.
            what = _told(error)
        raise Rejected(
            "provider_broken",
            detail=f"{self._noun} {name!r} ({point.value}) cannot be loaded: {what}",
            hint="repair or uninstall the package; it must register a callable that makes a "
            + self._kind.__name__,
        )


def _told(error: BaseException) -> str:
    try:
        return f"{name_of(error)}: {error}"[:MAX_DETAIL]
    except Exception:  # noqa: BLE001
        return name_of(error)  # its words cannot be had


async def _closed(one: Closable, noun: str) -> None:
    """Close it; one that breaks or hangs keeps neither the others nor the process."""
    with suppress(TimeoutError):
        await Call(_close(one, noun)).within(_CLOSE_WITHIN)


async def _close(one: Closable, noun: str) -> None:
    try:
        await one.aclose()
    except BaseException as error:  # noqa: BLE001
        logger.error("a %s cannot be closed: %s", noun, name_of(error))
