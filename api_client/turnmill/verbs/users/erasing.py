"""Erasing a user, in pieces of which each is committed: whoever dies over it, upkeep goes on.

In this order: nothing new is written; backups become unreadable; sessions go with every row, what
runs in them is cut; files; whatever else names him. Then it is looked again, until no transaction
is under way that began before.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from turnmill.actor import actor_of
from turnmill.crypto.key_store import ADMITTED, noted
from turnmill.crypto.wanted import HOUSE
from turnmill.domain.auditing import Action
from turnmill.domain.errors import FilesUnavailable, SessionBusy, TurnmillError
from turnmill.domain.ids import hash_of_user
from turnmill.domain.states import ErasureState
from turnmill.files.opened import file_store
from turnmill.settings import Settings
from turnmill.store.capabilities import Capability
from turnmill.store.database import Database
from turnmill.store.deletion_records import Erasure, ErasureReport
from turnmill.store.file_records import key_of
from turnmill.store.nouns import attachments, erased_rows, erasure_reports, subscribing
from turnmill.store.nouns import erasures as rows
from turnmill.store.nouns.audit import audited, audited_erasure
from turnmill.store.nouns.users import users_by_hash
from turnmill.streams.carrying import copies_for
from turnmill.streams.copies import Copies
from turnmill.verbs.verb import Connection

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("turnmill.erasures")

#: A turn that is cut has ended within this time, unless its worker stands still: it is fenced off.
_ENDS_WITHIN = 3.0
#: Whoever asked waits so long for transactions that began before; after that upkeep does.
_WAITED_FOR = 3.0
#: What was sealed by a key that was held until then is in the store within this time.
_WRITTEN_WITHIN = 5.0
_AGAIN_SECONDS = 0.05
_NO_GRACE = timedelta(0)


class Replayed(NamedTuple):
    """What a replay of erasures came to."""

    known: int  #: erasures that were looked at
    erased: int  #: users of whom something had come back


class Erasing:
    """Erases users of one store. Blocks."""

    def __init__(
        self, database: Database, settings: Settings, *, copies: Copies | None = None
    ) -> None:
        """`copies` are those of this process; None: they are looked for where they lie."""
        self._database = database
        self._settings = settings
        self._copies = copies

    def erase(self, user_id: str, *, reason: str, grace: timedelta) -> ErasureReport:
        """Erase the user, now or after `grace`, and say what is left for now."""
        self._run(_request, user_id, reason=reason, grace=grace, actor=actor_of(self._settings))
        if grace <= _NO_GRACE:
            self.go_on(user_id)
        return self.report(user_id)

    def report(self, user_id: str) -> ErasureReport:
        """Return what has become of the user so far."""
        return self._run(erasure_reports.report_of, user_id)

    def go_on(self, user_id: str) -> bool:
        """Do what is left to be done, and tell whether that is over."""
        self._run(rows.begin, user_id)
        if self._run(rows.state_of, user_id) is not ErasureState.ERASING:
            return False
        self._run(rows.note_unaware, user_id)
        self._shred(user_id)
        self._sweep(user_id)
        self._forget_notes(user_id)
        return self._finish(user_id)

    def go_on_with_all(self) -> int:
        """Do the same for every user whose time has come; how many have been done with."""
        return sum(map(self._tried, self._run(rows.due)))

    def _tried(self, user_id: str) -> bool:
        try:
            return self.go_on(user_id)
        except TurnmillError as error:
            logger.warning("an erasure cannot go on: %s; it is tried again", error.code)
            return False

    def admit(self, user_id: str) -> bool:
        """Let somebody of this id in again who was erased; False where nobody was.

        A process that held a data key of before would seal by it what nobody can read later: where
        others may hold one, that time is waited for.
        """
        keys = self._database.keys
        if keys is None:
            return self._run(rows.admit, user_id)
        if self._database.can(Capability.LASTING):
            ago = self._run(rows.seconds_since_end, user_id)
            time.sleep(max(0.0, keys.held_for + _WRITTEN_WITHIN - ago))
        admitted = self._run(rows.admit, user_id)
        if self._run(rows.state_of, user_id) is ErasureState.ADMITTED:  # by whoever died here, too
            keys.store.note_erasure(hash_of_user(user_id), ADMITTED)
            keys.drop()
        return admitted

    def replay(self, hashes: Iterable[str] = ()) -> Replayed:
        """Erase again whom these stand for, and whoever was erased here, and is back.

        Erasures are noted beside data keys, too, which no backup of the database brings back.
        """
        states = {one.user_hash: one.state for one in self.known()}
        wanted = self._gone() | {one for one in hashes if one not in states}
        back = self._found(wanted)
        for user_id in back:
            self._run(rows.renew, user_id)
            self.go_on(user_id)
        return Replayed(len(wanted), len(back))

    def back(self) -> list[str]:
        """Return users who were erased, and of whom something is here all the same."""
        return self._found(self._gone())

    def known(self) -> Iterator[Erasure]:
        """Yield all erasures that the store knows of."""
        page = self._run(rows.find)
        while page:
            yield from page
            page = self._run(rows.find, after=page[-1].user_hash)

    def _gone(self) -> set[str]:
        """Return what stands for users of whom nothing is to be here."""
        states = {one.user_hash: one.state for one in self.known()}
        noted = {one for one in self.noted() if one not in states}
        return noted | {one for one, state in states.items() if state is ErasureState.ERASED}

    def _found(self, hashes: set[str]) -> list[str]:
        if not hashes:
            return []
        with self._database.snapshot() as conn:
            found = set(users_by_hash(conn, hashes))
        if self._database.keys is not None:
            # A backup of the key store that was restored brings names and keys back by itself.
            kept = {one.user for one in self._database.keys.store.ls()} - {HOUSE}
            found |= {one for one in kept if hash_of_user(one) in hashes}
        return sorted(found)

    def noted(self) -> Iterator[str]:
        """Yield what stands for users of whom is noted beside data keys that they were erased."""
        if self._database.keys is not None:
            for user_hash, document in self._database.keys.store.erasures():
                if document != ADMITTED:
                    yield user_hash

    def _shred(self, user_id: str) -> None:
        """Forget his data key, if he has one: what was sealed by it nobody can read any more.

        That is only so where the keys stand apart from what is dumped, and all was sealed.
        """
        keys, until = self._database.keys, self._expires(self._settings.backups_kept)
        shredded = False
        if keys is not None:
            plain = self._run(rows.says_plainly, user_id)
            keys.store.note_erasure(hash_of_user(user_id), noted(ErasureState.ERASED))
            forgotten = keys.forget(user_id)
            if forgotten.apart and forgotten.keys and not plain:
                shredded, until = forgotten.readable_until is None, forgotten.readable_until
        self._run(rows.note_backups, user_id, shredded=shredded, until=until)

    def _expires(self, kept: timedelta | None) -> datetime | None:
        return None if kept is None else datetime.now(UTC) + kept

    def _sweep(self, user_id: str) -> None:
        """Remove what there is."""
        self._remove_sessions(user_id)
        ends = time.monotonic() + _ENDS_WITHIN
        while time.monotonic() < ends and self._run(erased_rows.runs, user_id):
            time.sleep(_AGAIN_SECONDS)
        self._remove_hidden(user_id)
        self._remove_files(user_id)
        last = self._run(erased_rows.redact_some, user_id)
        while last is not None:
            last = self._run(erased_rows.redact_some, user_id, after=last)
        self._run(erased_rows.remove_rest, user_id)

    def _remove_sessions(self, user_id: str) -> None:
        ends = time.monotonic() + _WAITED_FOR
        while True:
            done = self._run(erased_rows.remove_some, user_id)
            self._forget_streams(user_id, done)
            self._run(rows.note_gone, user_id, "streams", len(done.streams))
            if done.sessions:
                ends = time.monotonic() + _WAITED_FOR
            elif not done.busy or time.monotonic() > ends:
                return
            else:
                time.sleep(_AGAIN_SECONDS)

    def _remove_hidden(self, user_id: str) -> None:
        while (done := self._run(erased_rows.remove_hidden, user_id)).sessions:
            self._forget_streams(user_id, done)

    def _forget_streams(self, user_id: str, removed: erased_rows.Removed) -> None:
        if removed.streams and not self._all_copies.forget(removed.streams):
            self._run(rows.note_streams, user_id, self._settings.stream_ttl)

    def _remove_files(self, user_id: str) -> None:
        marked = self._run(attachments.remove_of_user, user_id)
        self._run(rows.note_gone, user_id, "attachments", len(marked))
        owed = self._run(attachments.owed_of, user_id)
        if owed:
            lasting = self._database.can(Capability.LASTING)
            store = file_store(self._settings, beside=self._database, lasting=lasting)
            for one in owed:
                try:
                    store.delete(key_of(one.user_id, one.id))
                except FilesUnavailable:
                    return  # upkeep tries again: the rows say what is left
                self._run(attachments.forget, one)
        self._run(erased_rows.forget_usage, user_id)

    def _forget_notes(self, user_id: str) -> None:
        """Remove ids of what is gone, as far as nobody has to read them yet."""
        while self._run(erased_rows.remove_events, user_id):
            continue
        while self._run(erased_rows.remove_notes, user_id):
            continue
        while self._run(subscribing.forget_observed):
            continue

    def _finish(self, user_id: str) -> bool:
        ends = time.monotonic() + _WAITED_FOR
        actor = actor_of(self._settings)
        while not (over := self._run(_finish, user_id, actor=actor)):
            if time.monotonic() > ends:
                break
            time.sleep(_AGAIN_SECONDS)
            self._sweep(user_id)
        if over and self._database.keys is not None:
            self._database.keys.store.forget(user_id)  # of a process of a version before
        if over:
            self._database.cut_log()
        return over

    def _run(
        self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a store function in a transaction; again where another one was in the way."""
        ends = time.monotonic() + _WAITED_FOR
        while True:
            try:
                return self._database.run(function, *args, **kwargs)
            except SessionBusy:
                if time.monotonic() > ends:
                    raise
            time.sleep(_AGAIN_SECONDS)

    @property
    def _all_copies(self) -> Copies:
        if self._copies is None:
            self._copies = copies_for(self._database, self._settings)
        return self._copies


def _request(conn: Connection, user_id: str, *, reason: str, grace: timedelta, actor: str) -> None:
    rows.request(conn, user_id, reason=reason, grace=grace)
    if rows.state_of(conn, user_id) is not ErasureState.ERASED:  # the log is to know no name
        audited(conn, Action.ERASURE_ASKED, actor=actor, user_id=user_id)


def _finish(conn: Connection, user_id: str, *, actor: str) -> bool:
    """Be done with it, and write that down as the last that the log says of this user."""
    over = rows.finish(conn, user_id)
    if over:
        audited_erasure(conn, actor=actor, user_id=user_id)
    return over
