"""Which providers there are: entry points, loaded by name when a turn first needs one."""

import os
from collections.abc import Mapping

from turnmill import wire
from turnmill.domain.errors import ProviderError
from turnmill_worker.providers.installed import Installed
from turnmill_worker.providers.port import Provider


class ProviderRegistry(Installed[Provider]):
    """The providers of this process, one instance of each."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(
            wire.PROVIDERS,
            Provider,  # type: ignore[type-abstract]
            noun="provider",
            environ=environ,
        )

    def configured(self) -> tuple[str, ...]:
        """Return the names that lack no key, without importing anything."""
        return tuple(name for name in self.names() if self.missing_key(name) is None)

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
