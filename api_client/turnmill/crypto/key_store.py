"""Where wrapped data keys stand: apart from what is dumped with conversations, if it is to count.

To forget a user's keys there makes all that was ever sealed for him unreadable, in dumps and
backups too, unless the keys were dumped along.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from turnmill.domain.ids import hash_of_user
from turnmill.domain.states import ErasureState


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A data key as it is kept: its secret is readable to nobody without the key that wraps it."""

    id: str  #: 22 characters, in every value that it seals
    user: str = field(repr=False)  #: whose it is; empty: the house's own, of templates and webhooks
    scope: str = ""  #: the caller's own key that wraps it; empty: a master key does
    version: int  #: 1, 2, … of this user and scope; the highest seals
    wrapped_by: str  #: the name of the key that wraps it
    wrapped: bytes = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What became of a user's keys."""

    keys: int  #: so many were there; 0: he had none, or they were forgotten before
    at: datetime
    #: whether the keys stood apart from dumps: only then dumps and backups are unreadable now
    apart: bool
    #: until then the key store's own backups hold them; None: it has none, or nobody knows
    readable_until: datetime | None = None

    @property
    def backups(self) -> str:
        """Return `shredded`, `readable_until`, or, where keys were dumped, `until_they_expire`."""
        if not self.apart:
            return "until_they_expire"
        return "shredded" if self.readable_until is None else "readable_until"


def noted(state: ErasureState) -> str:
    """Return the note of an erasure: that the user was erased, or that he was let in again."""
    return json.dumps({"state": state})


#: Of a user who is let in again: from then on he has keys.
ADMITTED = noted(ErasureState.ADMITTED)


def welcome(keys: Sequence[WrappedKey], notes: Mapping[str, str]) -> list[WrappedKey]:
    """Return the keys but for those of users who were erased, as the notes by their hashes say."""
    return [
        one
        for one in keys
        if not one.user or notes.get(hash_of_user(one.user), ADMITTED) == ADMITTED
    ]


class KeyStore(Protocol):
    """Wrapped data keys by user. Its verbs block, and may be called from any thread.

    Each raises DataKeyMissing where the store cannot be reached.
    """

    @property
    def apart(self) -> bool:
        """Tell whether it stands apart from the database that conversations are dumped from."""
        ...

    def get(self, *, ids: Collection[str] = (), users: Collection[str] = ()) -> list[WrappedKey]:
        """Return the keys with these ids, and all of these users."""
        ...

    def add(self, keys: Sequence[WrappedKey]) -> None:
        """Keep keys; where a user and scope have one of that version, that one stays.

        None is kept of a user of whom an erasure is noted, and who was not let in again: whoever
        comes late would leave his name here. After the note of it no such key comes any more.
        """
        ...

    def rewrap(self, key: WrappedKey, *, was: str) -> bool:
        """Keep it as it is wrapped now; False where it is gone, or `was` wraps it no more."""
        ...

    def drop(self, ids: Collection[str]) -> int:
        """Delete these keys, lastingly, and return how many there were."""
        ...

    def forget(self, user: str) -> Forgotten:
        """Delete every key of the user, lastingly. Idempotent."""
        ...

    def ls(self) -> Iterator[WrappedKey]:
        """Yield all keys, in the order of their ids."""
        ...

    def note_erasure(self, erasure_id: str, document: str) -> None:
        """Keep a note of an erasure, so that a restored backup can be told of it. Idempotent."""
        ...

    def erasures(self) -> Iterator[tuple[str, str]]:
        """Yield (id, document) of the erasures that were noted."""
        ...

    def close(self) -> None:
        """Give back what it holds of others; whoever asks it again gets it anew."""
        ...
