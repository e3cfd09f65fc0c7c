"""Sessions: `client.sessions`, conversations of users."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

from turnmill.domain.arguments import one_of, whole
from turnmill.domain.content import Message
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId, TurnId
from turnmill.domain.session_settings import OBSERVERS
from turnmill.domain.states import EventKind, SessionStatus
from turnmill.new_ids import new_id
from turnmill.store.kept import Keeping, kept_of
from turnmill.store.line.head import lock_sessions
from turnmill.store.nouns import sessions as rows
from turnmill.store.records import NewSession, SessionRecord
from turnmill.store.rules.wanted import seen
from turnmill.verbs import intake
from turnmill.verbs.backpressure import Backpressure
from turnmill.verbs.intake import UNCHANGED
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import (
    Connection,
    Deed,
    Effect,
    Shown,
    Verb,
    single,
    transaction,
)

if TYPE_CHECKING:
    from turnmill.store.compaction_records import CompactionRecord

T = TypeVar("T")


def create(
    new: NewSession,
    backpressure: Backpressure,
    *,
    max_cost_usd: object = None,
    history: Sequence[tuple[Message, ...]] = (),
) -> Verb[SessionRecord]:
    """Create the session, or get the one that its key stands for, as it is.

    `history` are turns, as `histories` has checked them.
    """
    limit = None if max_cost_usd is None else intake.max_cost(max_cost_usd)
    if history and new.adopted is not None:
        raise InvalidInput(
            "a thread that is adopted has a history of its own, at its vendor",
            hint="leave out history, or adopt",
        )

    def on(conn: Connection) -> Effect[SessionRecord]:
        record = rows.create(conn, new)
        if record.id == new.id:
            if limit is not None:
                bound_session(conn, record.id, limit)
            if history:
                begin_with(conn, record.id, history)
                record = rows.get(conn, record.id)
        backpressure.note(record)
        return Effect(record)

    several = limit is not None or history or OBSERVERS in new.settings
    several = several or seen(EventKind.OPENED)
    return transaction(on) if several else single(on)


def get(session: SessionRef) -> Verb[SessionRecord]:
    """Read the session."""
    return single(_of(session, rows.get))


def find(
    *,
    user_id: str | None,
    status: SessionStatus | str | None,
    id_prefix: str | None,
    after: object,
    limit: int,
) -> Verb[list[SessionRecord]]:
    """Read a page of sessions, newest first."""
    wanted = None if status is None else one_of(SessionStatus, status, name="status")
    user = intake.name_or_none(user_id, name="user_id")
    filters: dict[str, Any] = {"user_id": user, "status": wanted, "ids": intake.ids(id_prefix)}
    page = intake.listing(after=after, limit=limit)
    return single(lambda conn: Effect(rows.find(conn, **filters, **page)))


def kept(session: SessionRef) -> Verb[Keeping]:
    """Read how much vendors keep of the session."""
    return single(_of(session, kept_of))


def compactions(session: SessionRef) -> "Verb[list[CompactionRecord]]":
    """Read what its model is no longer shown."""
    from turnmill.store.line.compactions import compactions_of  # noqa: PLC0415  few look

    shows = Shown("summaries", "turn", lambda found: {one.turn_id for one in found if one.summary})
    return single(_of(session, compactions_of), shows=shows)


def id_of(session: SessionRef) -> Verb[SessionId]:
    """Find out which session is named."""
    return single(lambda conn: Effect(session_id(conn, session)))


def update(
    session: SessionRef,
    values: Mapping[str, Any],
    *,
    max_cost_usd: object = UNCHANGED,
    if_version: object = None,
) -> Verb[SessionRecord]:
    """Change options of the session: `values` are checked already."""
    version = version_or_none(if_version)
    if max_cost_usd is UNCHANGED and not values:
        raise InvalidInput("nothing to update", hint="name an option, such as model=")
    limit = None
    if max_cost_usd is not UNCHANGED and max_cost_usd is not None:
        limit = intake.max_cost(max_cost_usd)

    def change(conn: Connection, one: SessionId) -> SessionRecord:
        record = rows.change(conn, one, values, if_version=version)
        if max_cost_usd is not UNCHANGED:
            bound_session(conn, one, limit)
        return record

    deed = None if max_cost_usd is UNCHANGED else _bounded(session, limit)
    return transaction(_of(session, change), does=deed)


def _bounded(session: SessionRef, limit: Decimal | None) -> Deed:
    """Return what a change of what the session may cost is, as that of a budget's limit is."""
    figures = {"scope": "session", "period": "total"}
    if limit is None:
        return Deed("budget.removed", session=session, figures=figures, of_anybody=True)
    figures["limit_usd"] = f"{limit:f}"
    return Deed("budget.set", session=session, figures=figures, of_anybody=True)


def version_or_none(if_version: object) -> int | None:
    """Return the version that a session is to have; raises InvalidInput."""
    if if_version is None:
        return None
    return whole(if_version, name="if_version", most=2**53)


def pause(session: SessionRef) -> Verb[SessionRecord]:
    """Start no turn of the session."""
    on = switching(session, rows.pause)
    return transaction(on, does=Deed("paused", session=session))


def resume(session: SessionRef) -> Verb[SessionRecord]:
    """Let the turns of a paused session run again."""
    on = switching(session, rows.resume)

    def with_head(conn: Connection) -> Effect[SessionRecord]:
        done = on(conn)
        return done._replace(heads=rows.head_of(conn, done.result.id))

    return transaction(with_head, does=Deed("resumed", session=session))


def switching(
    session: SessionRef, switch: Callable[[Connection, SessionId], SessionRecord]
) -> Callable[[Connection], Effect[SessionRecord]]:
    """Return what gives the session another status, and tells whether it had that before."""

    def on(conn: Connection) -> Effect[SessionRecord]:
        target = session_id(conn, session)
        lock_sessions(conn, [target])
        before = rows.get(conn, target).status
        record = switch(conn, target)
        return Effect(record, changed=record.status is not before)

    return on


def begin_with(
    conn: Connection, session: SessionId, history: Sequence[tuple[Message, ...]]
) -> None:
    """Let a new session begin with these turns, which were had elsewhere."""
    from turnmill.store.nouns import scripted  # noqa: PLC0415  few begin with any

    script = (scripted.ScriptedTurn(id=TurnId(new_id()), messages=one) for one in history)
    scripted.insert_scripted(conn, session, script)


def bound_session(conn: Connection, session: SessionId, limit_usd: Decimal | None) -> None:
    """Bound all that the session costs from now on; None: no more."""
    from turnmill.store.nouns import budgets  # noqa: PLC0415  few are bounded

    budgets.bound_session(conn, session, limit_usd, budget_id=new_id())


def _of(
    session: SessionRef, function: Callable[[Connection, SessionId], T]
) -> Callable[[Connection], Effect[T]]:
    """Return what does this with the session, given as record, id or key."""
    return lambda conn: Effect(function(conn, session_id(conn, session)))
