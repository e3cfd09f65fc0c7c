"""What a store can promise beyond keeping turns: named, so that code asks for what it means."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from sqlalchemy import Connection

from turnmill.domain.errors import UnsupportedByStore


class Capability(StrEnum):
    """Something that not every store can do."""

    LASTING = "lasting"  #: rows outlive the process
    SHARED = "shared"  #: other processes work on the same rows: workers, dispatchers, applications
    NOTIFY = "notify"  #: whoever listens is told by a commit
    ROW_LOCKS = "row locks"  #: others write while a long statement does
    SCHEMAS = "schemas"  #: tables stand in a schema of their own, beside an application's
    LISTS = "lists"  #: statements take lists apart, and make them
    ROLLING_MIGRATIONS = "rolling migrations"  #: code of before works on while tables change


SERVER = frozenset(Capability)
FILE = frozenset({Capability.LASTING})
MEMORY = frozenset[Capability]()

_OF_DIALECT: Mapping[str, frozenset[Capability]] = MappingProxyType(
    {"postgresql": SERVER, "sqlite": FILE}
)


def capabilities_of(conn: Connection) -> frozenset[Capability]:
    """Return what the store behind a connection can do."""
    return capabilities_in(conn.dialect.name)


def capabilities_in(dialect: str) -> frozenset[Capability]:
    """Return what stores can do that speak this: for statements that are made once for all."""
    return _OF_DIALECT.get(dialect, MEMORY)


def capabilities_at(url: str) -> frozenset[Capability]:
    """Return what the store at this URL can do, whether or not the rest of the URL makes sense."""
    backend, _, place = url.partition("://")
    if not backend.startswith("sqlite"):
        return SERVER
    return FILE if place.strip("/") else MEMORY


def require(conn: Connection, capability: Capability) -> None:
    """Raise UnsupportedByStore where the store cannot do that."""
    if capability not in capabilities_of(conn):
        raise refusal(capability)


def refusal(capability: Capability) -> UnsupportedByStore:
    """Return the error of a store that cannot do that."""
    return UnsupportedByStore(f"this store is not made for that: it has no {capability}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """A store as it stands."""

    product: str  #: with its version
    now: datetime  #: by its own clock
    encoding: str
    durable: bool  #: a commit stands on disk before it is confirmed
    most_connections: int | None
    connections: int
    read_only: bool  #: it takes no writes, from this role and now
