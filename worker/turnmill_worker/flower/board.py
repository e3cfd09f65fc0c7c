"""What the tab reads, question by question: the store as its viewer, workers by the broker."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from turnmill.domain.errors import SessionNotFound, TurnNotFound
from turnmill.store.board import elsewhere, lines, overview, spending, turn, waiting
from turnmill.store.board.looking import look
from turnmill.store.database import Database
from turnmill.store.line.pauses import Pauses, read_pauses
from turnmill.store.nouns.lanes import LaneLoad, loads
from turnmill.verbs.verb import Connection
from turnmill_worker.flower.panels import Panel, Panels, Pool, Seen
from turnmill_worker.flower.workers import WorkerSays, ask_workers

T = TypeVar("T")

#: Threads that read, each with a connection at the most.
THREADS = 4
#: A statement that takes longer is given up by the server.
_WITHIN = timedelta(seconds=10)
#: A month that was never rolled up is long; it is read seldom then.
_WITHIN_FOR_MONEY = timedelta(seconds=60)
#: However many look, workers are asked no more often than this.
_ASK_EVERY = 5.0

#: How long a page waits for what is new, before it shows what is old.
PATIENCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What waits and runs at one moment."""

    lanes: Sequence[LaneLoad]
    paused: Pauses
    groups: Sequence[waiting.Group]
    holders: Sequence[overview.Holder]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """The newest batches, and how many there are in each state."""

    newest: Sequence[overview.BatchLook]
    states: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """Accounts that are closed, and budgets; None: this store knows no such thing."""

    accounts: Sequence[dict[str, Any]] | None = field(repr=False)
    budgets: Sequence[dict[str, Any]] | None = field(repr=False)


class Board:
    """Answers questions for pages and metrics. Used on Flower's loop."""

    def __init__(
        self, database: Database | None, lookup: Database | None, control: Callable[[], Any]
    ) -> None:
        """`database` is read as the viewer; None: there is no way to it.

        `lookup` finds a user's sessions, which a viewer may not. `control` is Celery's.
        """
        self._database = database
        self._lookup = lookup
        self.can_look_up = lookup is not None
        # Apart, so that neither a database nor a broker that hangs keeps the other one waiting.
        self._pool = Pool(ThreadPoolExecutor(THREADS, thread_name_prefix="turnmill-board"))
        asking = Pool(ThreadPoolExecutor(1, thread_name_prefix="turnmill-ask"))
        self._panels = Panels(self._pool)
        self._now = Panel(self._looking(_now), self._pool)
        self._ended = Panel(self._looking(overview.ended), self._pool)
        self._batches = Panel(self._looking(_newest_batches), self._pool)
        self._jobs = Panel(self._looking(overview.jobs), self._pool)
        self._elsewhere = Panel(self._looking(_elsewhere), self._pool)
        self._spent = Panel(self._spending, self._pool)
        self._workers: Panel[Sequence[WorkerSays]] = Panel(
            lambda: (ask_workers(control()), datetime.now(UTC)), asking, every=_ASK_EVERY
        )

    async def begin(self) -> None:
        """Read all of it once, so that the first who looks need not wait for connections."""
        if self.is_there:
            await asyncio.gather(
                *(self.now(), self.ended(), self.newest_batches(), self.spent(), self.workers())
            )

    @property
    def is_there(self) -> bool:
        """Tell whether there is a way to the database."""
        return self._database is not None

    async def now(self, patience: float = PATIENCE) -> Seen[Now]:
        """Return what waits and runs."""
        return await self._now.look(patience)

    async def ended(self, patience: float = PATIENCE) -> Seen[list[overview.Ended]]:
        """Return how many turns ended without a reply."""
        return await self._ended.look(patience)

    async def newest_batches(self, patience: float = PATIENCE) -> Seen[Batches]:
        """Return the newest batches, and how many there are."""
        return await self._batches.look(patience)

    async def jobs(self, patience: float = PATIENCE) -> Seen[list[overview.JobLook]]:
        """Return the last runs of upkeep."""
        return await self._jobs.look(patience)

    async def elsewhere(self, patience: float = PATIENCE) -> Seen[Elsewhere]:
        """Return closed accounts and budgets."""
        return await self._elsewhere.look(patience)

    async def spent(self, patience: float = PATIENCE) -> Seen[list[spending.Spent]]:
        """Return what was spent today and this month."""
        return await self._spent.look(patience)

    async def workers(self, patience: float = 0.0) -> Seen[Sequence[WorkerSays]]:
        """Return what workers said when they were last asked; they are asked again meanwhile."""
        return await self._workers.look(patience)

    async def waiting(
        self, reason: str | None, name: str | None, after: tuple[UUID, int] | None
    ) -> Seen[tuple[list[waiting.Waiting], tuple[UUID, int] | None]]:
        """Return a page of turns that are not final."""
        return await self._ask(
            ("waiting", reason, name, after),
            lambda conn: waiting.page(conn, reason=reason, name=name, after=after),
        )

    async def failed(
        self, state: str | None, code: str | None, batch: UUID | None, after: UUID | None
    ) -> Seen[tuple[list[dict[str, Any]], UUID | None]]:
        """Return a page of turns without a reply."""
        return await self._ask(
            ("failed", state, code, batch, after),
            lambda conn: lines.failed(conn, state=state, code=code, batch=batch, after=after),
        )

    async def batches(
        self, after: UUID | None
    ) -> Seen[tuple[list[overview.BatchLook], UUID | None]]:
        """Return a page of batches."""
        return await self._ask(("batches", after), lambda conn: overview.batches(conn, after=after))

    async def turn(self, turn_id: UUID) -> Seen[turn.TurnLook | None]:
        """Return a turn; None where there is none of this id."""

        def read(conn: Connection) -> turn.TurnLook | None:
            try:
                return turn.look_at(conn, turn_id)
            except TurnNotFound:
                return None

        return await self._ask(("turn", turn_id), read)

    async def session(self, session_id: UUID, before: int | None) -> Seen[lines.SessionLook | None]:
        """Return a session with a page of its line; None where there is none of this id."""

        def read(conn: Connection) -> lines.SessionLook | None:
            try:
                return lines.session(conn, session_id, before=before)
            except SessionNotFound:
                return None

        return await self._ask(("session", session_id, before), read)

    async def sessions_of(
        self, user_id: str, after: UUID | None
    ) -> Seen[tuple[list[dict[str, Any]], UUID | None]]:
        """Return a page of a user's sessions."""

        def read() -> tuple[tuple[list[dict[str, Any]], UUID | None], datetime]:
            assert self._lookup is not None
            with look(self._lookup, within=_WITHIN) as (conn, _):
                ids, further = lines.ids_of_user(conn, user_id, after=after)
            found, moment = self._looking(lambda conn: lines.sessions(conn, ids))()
            return (found, further), moment

        return await self._panels.of(("user", user_id, after), read).look(PATIENCE)

    async def ask(self, read: Callable[[Connection, datetime], T]) -> Seen[T]:
        """Return what a question of one request comes to; nothing of it is kept.

        `read` is told the moment that it looks at.
        """

        def looked() -> tuple[T, datetime]:
            assert self._database is not None
            with look(self._database, within=_WITHIN) as (conn, moment):
                return read(conn, moment), moment

        return await Panel(looked, self._pool).look(_WITHIN.total_seconds())

    async def _ask(self, key: object, read: Callable[[Connection], T]) -> Seen[T]:
        return await self._panels.of(key, self._looking(read)).look(PATIENCE)

    def _looking(self, read: Callable[[Connection], T]) -> Callable[[], tuple[T, datetime]]:
        def looked() -> tuple[T, datetime]:
            assert self._database is not None
            with look(self._database, within=_WITHIN) as (conn, moment):
                return read(conn), moment

        return looked

    def _spending(self) -> tuple[list[spending.Spent], datetime]:
        assert self._database is not None
        with look(self._database, within=_WITHIN_FOR_MONEY) as (conn, moment):
            return spending.spent(conn, now=moment), moment


def _now(conn: Connection) -> Now:
    return Now(
        lanes=loads(conn),
        paused=read_pauses(conn),
        groups=waiting.groups(conn),
        holders=overview.holders(conn),
    )


def _newest_batches(conn: Connection) -> Batches:
    return Batches(newest=overview.batches(conn)[0], states=overview.batch_states(conn))


def _elsewhere(conn: Connection) -> Elsewhere:
    return Elsewhere(accounts=elsewhere.closed_accounts(conn), budgets=elsewhere.budgets(conn))
