"""One store behind one client, and what it answers without the ids and moments of its own."""

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from sqlalchemy import select

from turnmill import AsyncClient, Client, TurnmillError
from turnmill.store.database import Database
from turnmill.store.schema.event_tables import metadata
from turnmill.store.schema.rollup_tables import SKETCHES

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+\d\d:\d\d|Z)?")
#: By what name a store refused: for who looks it up there.
_ITS_CODE = re.compile(r" \((sqlstate|SQLITE_)[^)]*\)")
#: What the verbs name as times to come is this far away; all that is nearer was read from a clock.
_YEAR = 2035
_KINDS = {
    "session",
    "turn",
    "schedule",
    "webhook",
    "attachment",
    "batch",
    "note",
    "feedback",
}
#: What differs by right: secrets, chance, clocks, and what is made of ids and clocks. A login is
#: Postgres', and so is the vacuum; SQLite keeps ids and moments as text, which an erasure reads.
_OWN = frozenset(
    {
        *("secret", "cursor", "key", "hash", "previous", "digest", "subject", "trace"),
        *("lease_owner", "timing", "now", "login", "columns", "unvacuumed"),
        *("latencies", "duration_ms", "active_ms", "estimate", "longest_ms"),
        *SKETCHES,
    }
)


@dataclass
class World:
    """One store with one client, and what has been made there, in order."""

    name: str
    client: Client | AsyncClient
    loop: asyncio.Runner
    made: dict[str, list[Any]] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Database:
        executor: Any = self.client._executor
        found: Database = getattr(executor, "blocking", None) or executor.database
        return found

    def of(self, kind: str, n: int) -> Any:
        """Return what was made as the nth of a kind, or what nobody has made."""
        there = self.made.get(kind, [])
        return there[n % len(there)] if there else UUID(int=7)

    def does(self, call: Callable[["World"], Any]) -> Any:
        """Return what a verb answers, as all stores should answer it."""
        try:
            found = self._all_of(call(self))
        except TurnmillError as error:
            said = _ITS_CODE.sub("", self.plain(str(error))), self.plain(error.hint)
            return ("refused", type(error).__name__, error.code, *said)
        except Exception as error:  # noqa: BLE001
            return ("fault", type(error).__name__, self.plain(str(error)))
        self._keep(found)
        return self.plain(found)

    def close(self) -> None:
        self._all_of(self.client.close())

    def _all_of(self, found: Any) -> Any:
        if inspect.isawaitable(found):
            return self.loop.run(_awaited(found))
        if inspect.isasyncgen(found):
            return self.loop.run(_each(found))
        return list(found) if inspect.isgenerator(found) else found

    def _keep(self, found: Any) -> None:
        for one in found if isinstance(found, list | tuple) else [found]:
            kind = type(one).__name__.removeprefix("Async").removesuffix("Record").lower()
            there = self.made.setdefault(kind, [])
            if kind in _KINDS and (id_ := getattr(one, "id", None)) and id_ not in there:
                there.append(id_)

    def _named(self, id_: str) -> str:
        return self.seen.setdefault(id_, f"id{len(self.seen)}")

    def plain(self, value: Any) -> Any:
        """Return it without ids and moments of this world."""
        if is_dataclass(value):
            name = type(value).__name__.removeprefix("Async")
            own = _own(value, name)
            kept = (one.name for one in fields(value) if one.name not in own)
            return {"": name} | {one: self.plain(getattr(value, one)) for one in kept}
        if isinstance(value, Mapping):
            return {self.plain(key): self.plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.plain(one) for one in value]
        return self._plain_text(value)

    def _plain_text(self, value: Any) -> Any:
        match value:
            case Enum():
                return f"{type(value).__name__}.{value.name}"
            case str():
                said = _ID.sub(lambda found: self._named(found[0]), value)
                return _MOMENT.sub(lambda at: at[0] if at[0] > str(_YEAR) else "then", said)
            case UUID():
                return self._named(str(value))
            case None | int() | float() | bytes():
                return value
            case _:
                return self._plain_other(value)

    def _plain_other(self, value: Any) -> Any:
        match value:
            case Decimal():
                return f"${value.normalize()}"
            case datetime():
                return value.isoformat() if value.year >= _YEAR else f"then {value.tzinfo}"
            case date():
                return str(value)
            case timedelta():
                return "a while"
            case _ if not hasattr(value, "id"):
                return type(value).__name__
            case _:
                return self._plain_handle(value)

    def _plain_handle(self, value: Any) -> Any:
        record = getattr(value, "_record", None) or getattr(value, "_accepted", None)
        name = type(value).__name__.removeprefix("Async")
        return [name, self.plain(value.id), self.plain(record)]

    def rows(self) -> dict[str, Counter[str]]:
        """Return how often each row stands in each table, whatever its ids and moments."""
        found: dict[str, Counter[str]] = {}
        with self.store.begin() as conn:
            for table in metadata.sorted_tables:
                if table.name == "event_log":
                    continue  # a migration makes its one row; where none did, the first look does
                shown = [one for one in table.columns if one.name not in _OWN]
                them = conn.execute(select(*shown)).mappings()
                found[table.name] = Counter(repr(_without_ids(dict(row))) for row in them)
        return found


def _own(value: Any, name: str) -> frozenset[str]:
    """Return which of its fields differ by right."""
    if "budget" in name.lower():
        return _OWN | {"name"}  # that of a session is named after the session's id, in short
    if getattr(value, "is_estimate", False):
        return _OWN | {"score"}  # made of how long things took, among others
    return _OWN


def _without_ids(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_ids(one) for key, one in sorted(value.items())}
        case list() | tuple():
            return [_without_ids(one) for one in value]
        case UUID():
            return "id"
        case datetime():
            return value.isoformat() if value.year >= _YEAR else "then"
        case Decimal():
            return f"${value.normalize()}"
        case str():
            return _MOMENT.sub("then", _ID.sub("id", value))
        case _:
            return value


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Yield where two answers differ, and how."""
    if type(one) is type(other) and isinstance(one, dict) and one.keys() == other.keys():
        for key in one:
            yield from differences(one[key], other[key], f"{path}.{key}")
    elif type(one) is type(other) and isinstance(one, list) and len(one) == len(other):
        for n, (here, there) in enumerate(zip(one, other, strict=True)):
            yield from differences(here, there, f"{path}[{n}]")
    elif type(one) is not type(other) or one != other:
        yield f"{path}: {one!r:.400} | {other!r:.400}"


async def _awaited(found: Any) -> Any:
    found = await found
    return await _each(found) if inspect.isasyncgen(found) else found


async def _each(found: Any) -> list[Any]:
    return [one async for one in found]
