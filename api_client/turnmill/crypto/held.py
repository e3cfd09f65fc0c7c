"""Data keys of a store that lives in memory: they end with it."""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from turnmill.crypto.key_store import Forgotten, WrappedKey, welcome


class HeldKeys:
    """Keys in the memory of this process."""

    apart = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, WrappedKey] = {}
        self._erasures: dict[str, str] = {}

    def get(self, *, ids: Collection[str] = (), users: Collection[str] = ()) -> list[WrappedKey]:
        """Return the keys with these ids, and all of these users."""
        return [one for one in list(self._keys.values()) if one.id in ids or one.user in users]

    def add(self, keys: Sequence[WrappedKey]) -> None:
        """Keep keys, unless there is one of that version."""
        with self._lock:
            places = {(one.user, one.scope, one.version) for one in self._keys.values()}
            for key in welcome(keys, self._erasures):
                if (key.user, key.scope, key.version) not in places:
                    self._keys[key.id] = key

    def rewrap(self, key: WrappedKey, *, was: str) -> bool:
        """Keep it as it is wrapped now."""
        with self._lock:
            known = self._keys.get(key.id)
            if known is None or known.wrapped_by != was:
                return False
            self._keys[key.id] = replace(known, wrapped=key.wrapped, wrapped_by=key.wrapped_by)
            return True

    def drop(self, ids: Collection[str]) -> int:
        """Delete these keys."""
        with self._lock:
            return sum(self._keys.pop(one, None) is not None for one in ids)

    def forget(self, user: str) -> Forgotten:
        """Delete every key of the user."""
        with self._lock:
            mine = [one.id for one in self._keys.values() if one.user == user]
            for key_id in mine:
                del self._keys[key_id]
        return Forgotten(keys=len(mine), at=datetime.now(UTC), apart=True)

    def ls(self) -> Iterator[WrappedKey]:
        """Yield all keys."""
        yield from sorted(self._keys.values(), key=lambda one: one.id)

    def note_erasure(self, erasure_id: str, document: str) -> None:
        """Keep a note of an erasure."""
        with self._lock:
            self._erasures[erasure_id] = document

    def erasures(self) -> Iterator[tuple[str, str]]:
        """Yield the erasures that were noted."""
        yield from list(self._erasures.items())

    def close(self) -> None:
        """Keep them: nobody else does."""
