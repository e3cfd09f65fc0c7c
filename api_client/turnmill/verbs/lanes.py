"""Lanes: `client.lanes`, what waits and runs, and the brakes that an operator can put on."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from turnmill.domain.arguments import one_of
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.states import Lane
from turnmill.store.database import Database
from turnmill.store.line import pauses as pause_rows
from turnmill.store.line.pauses import Pauses
from turnmill.store.nouns import lanes as lane_rows
from turnmill.store.nouns.lanes import LaneLoad
from turnmill.store.upkeep.vitals import is_asked_for, providers_in_use

if TYPE_CHECKING:
    from sqlalchemy import Connection

#: Packages register their providers under it.
PROVIDERS = "turnmill.providers"


class Lanes:
    """`client.lanes`: lanes and providers, looked at, paused and resumed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def loads(self) -> Sequence[LaneLoad]:
        """Return what waits and runs, for every lane and provider that has anything unfinished."""
        with self._database.single() as conn:
            return lane_rows.loads(conn)

    def paused(self) -> Pauses:
        """Return what is paused now."""
        with self._database.single() as conn:
            return pause_rows.read_pauses(conn)

    def pause(
        self, *, lane: str | None = None, provider: str | None = None, force: bool = False
    ) -> None:
        """Start none of these turns any more; messages are still accepted, and what runs goes on.

        It holds for every claim that begins after this call. Pausing twice is pausing once. Raises
        InvalidInput for a provider that is neither installed here nor asked for by any session,
        unless `force` says that it is meant.
        """
        named = _named(lane, provider)
        with self._database.begin() as conn:
            if provider is not None and not force:
                _refuse_unknown(conn, provider)
            for kind, name in named:
                pause_rows.pause(conn, kind=kind, name=name)

    def resume(self, *, lane: str | None = None, provider: str | None = None) -> None:
        """Let these turns run again; dispatchers find what is due within about a second."""
        named = _named(lane, provider)
        with self._database.begin() as conn:
            for kind, name in named:
                pause_rows.resume(conn, kind=kind, name=name)


def _refuse_unknown(conn: "Connection", provider: str) -> None:
    installed = {one.name for one in entry_points(group=PROVIDERS)}
    if provider in installed or is_asked_for(conn, provider):
        return
    in_use = ", ".join(sorted(providers_in_use(conn))) or "none"
    raise InvalidInput(
        "provider is neither installed here nor asked for by any session",
        hint=f"in use: {in_use}; force=True or --force for one that is to come",
    )


def _named(lane: str | None, provider: str | None) -> list[tuple[str, str]]:
    found = []
    if lane is not None:
        found.append((pause_rows.LANE, one_of(Lane, lane, name="lane").value))
    if provider is not None:
        found.append((pause_rows.PROVIDER, check_name(provider, name="provider")))
    if not found:
        raise InvalidInput("nothing is named", hint="name a lane or a provider")
    return found
