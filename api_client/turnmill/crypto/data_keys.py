"""The data keys of a process: fetched before they are needed, and held for seconds."""

import os
import threading
import time
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID

from turnmill.crypto.key_store import Forgotten, KeyStore, WrappedKey
from turnmill.crypto.kms import Kms
from turnmill.crypto.sealing import SECRET_BYTES, DataKey
from turnmill.crypto.wanted import KeyWanted, Owner
from turnmill.domain.errors import DataKeyMissing, UserErased

K = TypeVar("K")
T = TypeVar("T")
V = TypeVar("V")

#: Whoever forgets a user's keys is heard everywhere after so long.
HELD_SECONDS = 30.0
#: What is missing is looked for again after so long.
MISSED_SECONDS = 1.0
#: Users whose keys a process holds at once.
_MOST = 100_000
#: Keys that are asked for at once.
_PAGE = 500


class DataKeys:
    """Keys by id and by owner; thread-safe. What asks the key store blocks, and says so."""

    def __init__(self, store: KeyStore, kms: Kms) -> None:
        self.store = store
        self.kms = kms
        self.held_for = HELD_SECONDS
        #: Keys of metadata that stay plain; None: all do.
        self.plain_metadata: frozenset[str] | None = None
        #: Whether settings are sealed, but for what SQL goes by.
        self.seals_settings = False
        self._lock = threading.Lock()
        self._by_id: OrderedDict[str, tuple[float, DataKey]] = OrderedDict()
        self._current: OrderedDict[Owner, tuple[float, DataKey]] = OrderedDict()
        self._missing: OrderedDict[str | Owner, tuple[float, str]] = OrderedDict()
        self._erased: OrderedDict[Owner, tuple[float, None]] = OrderedDict()
        self._owners: OrderedDict[UUID, Owner] = OrderedDict()
        self._folders: OrderedDict[str, Owner] = OrderedDict()

    # What needs nobody else.

    def key(self, key_id: str) -> DataKey:
        """Return the key with this id.

        Raises KeyWanted where it has to be fetched; DataKeyMissing where that was tried just now.
        """
        held = self._by_id.get(key_id)
        if held is None or held[0] < time.monotonic():
            self._refuse_missing(key_id)
            raise KeyWanted(ids=(key_id,))
        return held[1]

    def current(self, owner: Owner) -> DataKey:
        """Return the key that seals for this owner; raises as `key` does."""
        held = self._current.get(owner)
        if held is None or held[0] < time.monotonic():
            self._refuse_missing(owner)
            raise KeyWanted(owners=(owner,))
        return held[1]

    def missing(self, owners: Iterable[Owner]) -> set[Owner]:
        """Return those whose key has to be fetched; raises DataKeyMissing as `key` does."""
        now = time.monotonic()
        found = {one for one in owners if self._current.get(one, (0.0,))[0] < now}
        for one in found:
            self._refuse_missing(one)
        return found

    def _refuse_missing(self, name: str | Owner) -> None:
        now = time.monotonic()
        until, why = self._missing.get(name, (0.0, ""))
        if until > now:
            raise DataKeyMissing(why)
        if isinstance(name, Owner) and self._erased.get(name, (0.0, None))[0] > now:
            raise UserErased("the user was erased: no key of his is kept any more")

    def owner_of(self, session_id: UUID) -> Owner | None:
        """Return whose session that is, as far as it is known here: it never changes."""
        return self._owners.get(session_id)

    def note_owner(self, session_id: UUID, owner: Owner) -> None:
        """Remember whose session that is."""
        with self._lock:
            _put(self._owners, session_id, owner)

    def owner_of_folder(self, folder: str) -> Owner | None:
        """Return whose files are below this folder, if a file of his is about to be written."""
        return self._folders.get(folder)

    def note_folder(self, owner: Owner) -> None:
        """Remember that a file of this user's is about to be written."""
        with self._lock:
            _put(self._folders, sha256(owner.user.encode()).hexdigest(), owner)

    # What asks the key store: never while a transaction is open.

    def fetch(self, *, ids: Collection[str] = (), owners: Collection[Owner] = ()) -> None:
        """Fetch keys, and make one for an owner who has none.

        Raises DataKeyMissing where one is gone, where the key that wraps it is not there or another
        one, or the key store cannot be reached; those that can be had are held all the same.
        """
        failed: DataKeyMissing | None = None
        for some in _pages(list(ids)):
            try:
                self._hold(self.store.get(ids=some), ids=some, owners=())
            except DataKeyMissing as error:
                failed = self._note_missing(some, self._by_id, error)
        for page in _pages(list(owners)):
            try:
                self._hold(self._of(page), ids=(), owners=page)
            except DataKeyMissing as error:
                failed = self._note_missing(page, self._current, error)
        if failed is not None:
            raise failed

    def _note_missing(
        self,
        names: Sequence[str | Owner],
        held: Mapping[Any, tuple[float, DataKey]],
        error: DataKeyMissing,
    ) -> DataKeyMissing:
        """Remember for a moment what could not be had: who reads other rows beside goes on."""
        now = time.monotonic()
        with self._lock:
            for name in names:
                if held.get(name, (0.0,))[0] < now:
                    _put(self._missing, name, (now + MISSED_SECONDS, str(error)))
        return error

    def hold_all_of(self, user: str) -> None:
        """Hold every key of a user for a while: before all that is his is read in one go.

        Raises DataKeyMissing where one of them cannot be unwrapped.
        """
        found = self.store.get(users=(user,))
        self._hold(found, ids=[one.id for one in found], owners=())

    def forget(self, user: str) -> Forgotten:
        """Forget all keys of a user, for good: nobody can read what was sealed for him."""
        forgotten = self.store.forget(user)
        with self._lock:
            for key_id in [name for name, (_, key) in self._by_id.items() if key.user == user]:
                del self._by_id[key_id]
            for owner in [one for one in self._current if one.user == user]:
                del self._current[owner]
        return forgotten

    def rotate(self, owner: Owner) -> None:
        """Let a new data key seal for the owner from now on; the old ones still open."""
        known = [one for one in self.store.get(users=(owner.user,)) if one.scope == owner.scope]
        version = max((one.version for one in known), default=0) + 1
        # Hashes stay what they were: only the half that seals is new.
        secret = os.urandom(SECRET_BYTES)
        if known:
            latest = max(known, key=lambda one: one.version)
            secret = secret[:32] + self._secret_of(latest)[32:]
        self.store.add([self._wrapped(owner, version, secret)])
        with self._lock:
            self._current.pop(owner, None)

    def rewrap(self, key: WrappedKey) -> bool:
        """Wrap a data key by the newest master key; False where it is so already, or gone."""
        name = self.kms.current()
        if key.scope or key.wrapped_by == name:
            return False
        wrapped = self.kms.wrap(name, self._secret_of(key), about=_about(key))
        return self.store.rewrap(replace(key, wrapped=wrapped, wrapped_by=name), was=key.wrapped_by)

    def rewrappable(self, key: WrappedKey) -> None:
        """Raise DataKeyMissing unless what wraps the key is there, and the right one."""
        self._secret_of(key)

    def drop(self) -> None:
        """Hold nothing any more."""
        with self._lock:
            self._missing.clear()
            self._erased.clear()
            self._by_id.clear()
            self._current.clear()

    def _of(self, owners: Sequence[Owner]) -> list[WrappedKey]:
        """Return all keys of these, who have one each at the least."""
        users = {owner.user for owner in owners}
        found = self.store.get(users=users)
        there = {Owner(one.user, one.scope) for one in found}
        lacking = [owner for owner in owners if owner not in there]
        if not lacking:
            return found
        self.store.add([self._wrapped(one, 1, os.urandom(SECRET_BYTES)) for one in lacking])
        # Somebody else may have been first: what stands counts.
        found = self.store.get(users=users)
        there = {Owner(one.user, one.scope) for one in found}
        until = time.monotonic() + MISSED_SECONDS
        with self._lock:
            for owner in lacking:
                if owner not in there:
                    _put(self._erased, owner, (until, None))
        return found

    def _wrapped(self, owner: Owner, version: int, secret: bytes) -> WrappedKey:
        key = WrappedKey(
            id=urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode(),
            user=owner.user,
            scope=owner.scope,
            version=version,
            wrapped_by=owner.scope or self.kms.current(),
            wrapped=b"",
            created_at=datetime.now(UTC),
        )
        wrapped = self.kms.wrap(key.wrapped_by, secret, about=_about(key))
        return replace(key, wrapped=wrapped)

    def _secret_of(self, key: WrappedKey) -> bytes:
        return self.kms.unwrap(key.wrapped_by, key.wrapped, about=_about(key))

    def _hold(
        self,
        found: Iterable[WrappedKey],
        *,
        ids: Collection[str],
        owners: Collection[Owner],
    ) -> None:
        by_id = {one.id: one for one in found}
        gone = [key_id for key_id in ids if key_id not in by_id]
        newest: dict[Owner, WrappedKey] = {}
        asked = set(owners)
        for one in sorted(by_id.values(), key=lambda one: one.version):
            if (owner := Owner(one.user, one.scope)) in asked:
                newest[owner] = one
        wanted = {key_id: by_id[key_id] for key_id in ids if key_id in by_id}
        wanted |= {one.id: one for one in newest.values()}
        ready, failed = self._all_ready(wanted)
        until = time.monotonic() + self.held_for
        with self._lock:
            for key_id, key in ready.items():
                _put(self._by_id, key_id, (until, key))
            for owner, one in newest.items():
                if one.id in ready:
                    _put(self._current, owner, (until, ready[one.id]))
        if gone:
            raise DataKeyMissing(f"data key {gone[0]} is not in the key store")
        if failed is not None:
            raise failed

    def _all_ready(
        self, wanted: Mapping[str, WrappedKey]
    ) -> tuple[dict[str, DataKey], DataKeyMissing | None]:
        """Return those that can be unwrapped, and why another one cannot."""
        ready: dict[str, DataKey] = {}
        failed: DataKeyMissing | None = None
        for key_id, one in wanted.items():
            try:
                ready[key_id] = self._ready(one)
            except DataKeyMissing as error:
                failed = error
        return ready, failed

    def _ready(self, key: WrappedKey) -> DataKey:
        return DataKey.of(key.id, key.user, key.scope, key.version, self._secret_of(key))


def _pages(wanted: Sequence[T]) -> Iterator[Sequence[T]]:
    for at in range(0, len(wanted), _PAGE):
        yield wanted[at : at + _PAGE]


def _put(held: "OrderedDict[K, V]", name: K, value: V) -> None:
    held[name] = value
    held.move_to_end(name)
    while len(held) > _MOST:
        held.popitem(last=False)


def _about(key: WrappedKey) -> bytes:
    return f"{key.id}\0{key.user}\0{key.scope}\0{key.version}".encode()
