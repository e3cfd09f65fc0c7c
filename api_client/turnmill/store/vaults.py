"""Sealed values at the border of the store: which keys a connection has, and how values open."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect

from turnmill.crypto.envelope import PREFIX, is_sealed, key_id_of
from turnmill.crypto.wanted import KeyWanted
from turnmill.domain.errors import DataKeyMissing, SealBroken, SessionBusy, StoreError

if TYPE_CHECKING:
    from turnmill.crypto.data_keys import DataKeys

#: Between the place of a row, its user in hex, and its value, where the store tells all of them.
MARK = "\x1f"
#: Stands in JSON that holds a sealed value, and in few others.
_IN_JSON = f'"{PREFIX}'
#: What is told so begins like this, and nothing else that is read does.
MARKED = f"{PREFIX}{MARK}"

_vaults: "WeakKeyDictionary[Dialect, DataKeys]" = WeakKeyDictionary()


_NOTHING: Mapping[str, Any] = MappingProxyType({})


class KeyFetched(SessionBusy):
    """A data key had to be fetched first; nothing was written, and it is held now."""


class Unopened:
    """Stands for a value that cannot be opened, or not yet; who looks at it is told why.

    `beside` is what of an object stands plain.
    """

    __slots__ = ("beside", "error")

    def __init__(
        self, error: StoreError | KeyWanted, *, beside: Mapping[str, Any] = _NOTHING
    ) -> None:
        self.error = error
        self.beside = beside


def plain(value: Any) -> Any:
    """Return a value as it was read; raises what keeps one from being opened."""
    if isinstance(value, Unopened):
        raise value.error
    return value


class _Closed(Mapping[str, Any]):
    """An object that nobody could open, for those who need not look into it."""

    def __init__(self, error: StoreError | KeyWanted) -> None:
        self._error = error

    def __getitem__(self, key: str) -> Any:
        raise self._error

    def __iter__(self) -> Iterator[str]:
        raise self._error

    def __len__(self) -> int:
        raise self._error


def plain_or_none(value: Any) -> Any:
    """Return a value as it was read; None for one that cannot be opened here. Raises KeyWanted."""
    try:
        return plain(value)
    except (DataKeyMissing, SealBroken):
        return None


def closed(value: Any) -> Any:
    """Return an object as it was read; who looks into one is told what keeps it from being so."""
    return _Closed(value.error) if isinstance(value, Unopened) else value


def plain_setting(settings: Any, name: str) -> Any:
    """Return what stands plain of a setting, whether the others can be opened or not.

    Raises LookupError for one that may be sealed as a whole.
    """
    from turnmill.domain.plain_settings import PLAIN_SETTINGS  # noqa: PLC0415  few ask

    if name not in PLAIN_SETTINGS:
        raise LookupError(f"the setting {name!r} may be sealed")
    told = settings.beside if isinstance(settings, Unopened) else settings
    return told.get(name) if isinstance(told, Mapping) else None


def attach(dialect: Dialect, keys: "DataKeys | None") -> None:
    """Let values be sealed and opened with these keys on all connections of this dialect."""
    if keys is not None:
        _vaults[dialect] = keys
    elif _vaults:
        _vaults.pop(dialect, None)


def attach_given(given: Any, keys: "DataKeys | None") -> None:
    """Do the same for the connection, or ORM session, of a caller's transaction."""
    if keys is None:
        return
    if not isinstance(given, Connection) and callable(find := getattr(given, "connection", None)):
        given = find()
    if isinstance(given, Connection):
        attach(given.dialect, keys)


def keys_at(dialect: Dialect) -> "DataKeys | None":
    """Return the keys of these connections; None: nothing is encrypted there."""
    return _vaults.get(dialect) if _vaults else None


def may_be_sealed(prompt: str | None, said: str, history: str) -> bool:
    """Tell whether what a claim brings, a text and two of JSON, may be sealed all the same."""
    is_prompt = prompt is not None and prompt.startswith(PREFIX)
    return is_prompt or _IN_JSON in said or _IN_JSON in history


def fetch(keys: "DataKeys | None", wanted: KeyWanted) -> None:
    """Fetch what is wanted; blocks. What cannot be had is refused to whoever looks again."""
    if keys is None:
        raise no_keys()
    with suppress(DataKeyMissing):
        keys.fetch(ids=wanted.ids, owners=wanted.owners)


def no_keys() -> DataKeyMissing:
    """Return the error for what is encrypted, where no keys are named."""
    return DataKeyMissing("this is encrypted, and no keys are set here")


def opened(
    keys: "DataKeys | None", sealed: str, *, table: str, column: str, place: str, user: str | None
) -> bytes:
    """Return what a sealed value says in this place.

    `user` is whose row it is, in hex; None: nobody's in particular. Raises KeyWanted,
    DataKeyMissing, or SealBroken.
    """
    if keys is None:
        raise no_keys()
    key = keys.key(key_id_of(sealed))
    if user is not None and key.user.encode().hex() != user:
        raise SealBroken(f"{table}.{column}: the value was sealed for another user")
    return key.open(sealed, table=table, place=place, column=column)


def read_marked(
    marked: str,
    dialect: Dialect,
    *,
    table: str,
    column: str,
    load: Callable[[bytes], Any],
    checks_user: bool,
) -> Any:
    """Return the value that the store told along with its row's place; what is plain as it is."""
    place, user, value = marked[len(MARKED) :].split(MARK, 2)
    if not is_sealed(value):
        return value
    plain = opened(
        keys_at(dialect),
        value,
        table=table,
        column=column,
        place=place,
        user=user if checks_user else None,
    )
    return load(plain)


def json_opened(plain: bytes) -> Any:
    """Return the JSON that was sealed."""
    return json.loads(plain)
