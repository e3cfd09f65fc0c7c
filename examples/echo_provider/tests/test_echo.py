"""The promises that Turnmill asks of every provider, put to this one: `pytest` in its folder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from turnmill_echo import EchoProvider

from turnmill.testing.provider_contract import Fault, ProviderContract, Rig


class EchoRig(Rig):
    """An echo has no vendor, so there is not much that can go wrong: it knows one model."""

    async def meet(self, fault: Fault | None) -> None:
        """Ask for another model, which is refused."""
        self.model = "echo-1" if fault is None else "echo-9"


class TestEcho(ProviderContract):
    """One rig, and pytest collects a test for each promise."""

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Rig]:
        """Make the provider anew for every promise."""
        yield EchoRig(
            provider=EchoProvider(),
            model="echo-1",
            faults={Fault.REFUSED},
            impatient=None,  # it asks nobody who could keep it waiting
            environment={"ECHO_VOICE": "quiet"},
        )
