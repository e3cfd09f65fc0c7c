"""Budgets: `client.budgets`, what turns may cost."""

from uuid import UUID

from turnmill.domain.arguments import one_of
from turnmill.domain.auditing import Action
from turnmill.domain.budgets import OnExceeded, Period, Scope, dollars, time_zone, warnings_given
from turnmill.domain.checks import check_name
from turnmill.domain.errors import InvalidInput
from turnmill.domain.ids import SessionId
from turnmill.domain.plain import items_of
from turnmill.new_ids import new_id
from turnmill.settings import Settings
from turnmill.store.budget_records import Budget, Holder, NewBudget
from turnmill.store.nouns import budgets as rows
from turnmill.store.nouns import sessions as session_rows
from turnmill.store.nouns.audit import audited, owners
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef, session_id
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction

_WHOSE = 'session=, user_id= or tag=("key", "value"), or none of them for everybody'


#: Periods for which it is the same whose midnights count.
_WITHOUT_MIDNIGHT = (Period.TURN, Period.TOTAL)
_USUAL_ZONE = "UTC"


class Whose:
    """Whose budget is meant, as a caller names it."""

    def __init__(
        self,
        *,
        session: SessionRef | None,
        user_id: object,
        tag: object,
        settings: Settings | None = None,
    ) -> None:
        """Raises InvalidInput; with `settings`, for a tag that no worker looks at, too."""
        if sum(one is not None for one in (session, user_id, tag)) > 1:
            raise InvalidInput("a budget is of one thing", hint=_WHOSE)
        self._session = session
        self._holder = Holder(Scope.ALL)
        if user_id is not None:
            self._holder = Holder(Scope.USER, check_name(user_id, name="user_id"))
        if tag is not None:
            self._holder = _tagged(tag, known=None if settings is None else settings.tags)

    def on(self, conn: Connection) -> Holder:
        """Return the holder; raises SessionNotFound."""
        if self._session is None:
            return self._holder
        found = session_rows.get(conn, session_id(conn, self._session))
        return Holder(Scope.SESSION, str(found.id))


def _tagged(tag: object, *, known: tuple[str, ...] | None) -> Holder:
    pair = items_of(tag, most=2) if isinstance(tag, tuple | list) else None
    if pair is None or len(pair) != 2:
        raise InvalidInput("tag must be a key and a value", hint='tag=("team", "red")')
    key = check_name(pair[0], name="the tag's key")
    value = check_name(pair[1], name="the tag's value")
    if known is not None and key not in known:
        raise InvalidInput(
            f"no tag is named {key}", hint="name it in TURNMILL_TAGS, of every worker too"
        )
    return Holder(Scope.TAG, key, value)


def set_budget(
    whose: Whose,
    *,
    limit_usd: object,
    period: object,
    timezone: object,
    on_exceeded: object,
    warn_at: object,
    actor: str,
) -> Verb[Budget]:
    """Let a budget be so from now on."""
    most = dollars(limit_usd, name="limit_usd")
    of_period, zone = one_of(Period, period, name="period"), time_zone(timezone)
    then = one_of(OnExceeded, on_exceeded, name="on_exceeded")
    shares = warnings_given(warn_at)
    if of_period in _WITHOUT_MIDNIGHT and zone != _USUAL_ZONE:
        raise InvalidInput(f"the period {of_period} ends at no midnight", hint="leave timezone out")
    budget_id = new_id()

    def on(conn: Connection) -> Effect[Budget]:
        new = NewBudget(
            holder=whose.on(conn),
            period=of_period,
            timezone=zone,
            limit_usd=most,
            on_exceeded=then,
            warn_at=shares,
        )
        budget = rows.set_budget(conn, new, budget_id=budget_id)
        figures = {"limit_usd": f"{new.limit_usd:f}", "on_exceeded": budget.on_exceeded.value}
        _note(conn, Action.BUDGET_SET, new.holder, budget.period, actor, figures)
        return Effect(budget)

    return transaction(on)


def get(whose: Whose, *, period: object) -> Verb[Budget]:
    """Read a budget."""
    wanted = _period(period)
    return single(lambda conn: Effect(rows.get(conn, whose.on(conn), wanted)))


def find(*, after: object, limit: object) -> Verb[list[Budget]]:
    """Read a page of budgets."""
    page = intake.listing(after=after, limit=limit)
    return single(lambda conn: Effect(rows.find(conn, **page)))


def remove(whose: Whose, *, period: object, actor: str) -> Verb[None]:
    """Bound these turns no more."""
    wanted = _period(period)

    def on(conn: Connection) -> Effect[None]:
        holder = whose.on(conn)
        rows.remove(conn, holder, wanted)
        _note(conn, Action.BUDGET_REMOVED, holder, wanted, actor, {})
        return Effect(None)

    return transaction(on)


def _note(
    conn: Connection,
    action: Action,
    holder: Holder,
    period: Period | None,
    actor: str,
    figures: dict[str, str],
) -> None:
    """Write down whose budget was changed, without the name of a tag: people choose those."""
    user_id, of = None, {}
    if holder.scope is Scope.USER:
        user_id = holder.name
    elif holder.scope is Scope.SESSION:
        of = {"session": holder.name}
        session = SessionId(UUID(holder.name))
        user_id = owners(conn, "session", [session]).get(session)
    figures = {
        "scope": holder.scope.value,
        **({"period": period.value} if period else {}),
    } | figures
    audited(conn, action, actor=actor, user_id=user_id, objects=of, figures=figures)


def _period(value: object) -> Period | None:
    return None if value is None else one_of(Period, value, name="period")
