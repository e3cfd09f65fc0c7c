"""What statements were compiled to, kept for all stores of a run.

A store compiles each of its statements once, which takes milliseconds; tests open thousands of
stores. What depends on the store's own keys and connections is made anew for each. Where tables
stand is put into a statement each time that it is run, table by table: here it is done once.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

from sqlalchemy import Engine
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import IdentifierPreparer
from sqlalchemy.util import LRUCache

#: What a compiled statement makes of its dialect as it is used: there hang the keys of a store.
_OF_A_STORE = (
    "_bind_processors",
    "_cached_metadata",
    "_inserted_primary_key_from_lastrowid_getter",
    "_inserted_primary_key_from_returning_getter",
)
_MOST, _MOST_OF_A_STORE = 6_000, 500


class Compiled(LRUCache[Any, Any]):
    """The cache of an engine: what it misses may have been compiled for another one of its kind."""

    def __init__(self, every: LRUCache[Any, Any]) -> None:
        super().__init__(_MOST_OF_A_STORE)
        self._every = every

    def get(self, key: Any, default: Any = None) -> Any:
        found = super().get(key, default)
        if found is default and (of_another := self._every.get(_of_a_kind(key))) is not None:
            found = _made_over(of_another, key[0])
            super().__setitem__(key, found)
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self._every[_of_a_kind(key)] = value


def _of_a_kind(key: Any) -> tuple[Any, ...]:
    """Return the key with all of its dialect that words a statement in the place of that."""
    dialect, *rest = key
    return (type(dialect), dialect.paramstyle, dialect.server_version_info, *rest)


def _made_over(compiled: Any, dialect: Dialect) -> Any:
    found = copy.copy(compiled)
    found.dialect = dialect
    for name in _OF_A_STORE:
        found.__dict__.pop(name, None)
    return found


class _Shared:
    """Stands where an engine keeps its cache, and puts another one there."""

    def __init__(self) -> None:
        self._every: LRUCache[Any, Any] = LRUCache(_MOST)

    def __set__(self, engine: Engine, cache: Any) -> None:
        is_new = type(cache) is LRUCache
        vars(engine)["_compiled_cache"] = Compiled(self._every) if is_new else cache

    def __get__(self, engine: Engine, _: type[Engine]) -> Any:
        return vars(engine)["_compiled_cache"]


def _placed_once() -> Callable[..., str]:
    """Return what puts schemas into a statement, and remembers what came of it."""
    place = IdentifierPreparer._render_schema_translates
    placed: LRUCache[Any, str] = LRUCache(_MOST)

    def placed_once(
        preparer: IdentifierPreparer, statement: str, schemas: Mapping[str | None, str | None]
    ) -> str:
        of_all = (type(preparer), preparer.dialect.default_schema_name, *schemas.items())
        if None in schemas:  # an application's own
            return place(preparer, statement, schemas)
        if (found := placed.get((statement, of_all))) is None:
            found = placed[statement, of_all] = place(preparer, statement, schemas)
        return found

    return placed_once


@contextmanager
def compiled_once() -> Iterator[None]:
    """Let all engines that are made meanwhile share what they have compiled."""
    with (
        mock.patch.object(Engine, "_compiled_cache", _Shared(), create=True),
        mock.patch.object(IdentifierPreparer, "_render_schema_translates", _placed_once()),
    ):
        yield
