"""What a settle is given, and what turn, attempt and session become by it: in Core, for both."""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Integer,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    func,
    not_,
    null,
    or_,
)
from sqlalchemy.types import TypeEngine

from turnmill.domain.bounds import LONGEST_DELAY
from turnmill.domain.ids import SessionId
from turnmill.domain.states import FINAL, OnFailure, SessionStatus, TurnState
from turnmill.store.dollars import Dollars
from turnmill.store.records import Settlement
from turnmill.store.rules.sealing import Sealer
from turnmill.store.schema.tables import attempts, sessions, turns
from turnmill.store.types import db_after, db_now, json_joined

#: What attempts use up, and the tables that sum it: NULL is unknown, and so is any sum with it; a
#: session sums what is known.
COUNTS: Mapping[str, tuple[Table, ...]] = MappingProxyType(
    {
        "input_tokens": (turns, attempts, sessions),
        "output_tokens": (turns, attempts, sessions),
        "cached_tokens": (turns, attempts),
        "cache_write_tokens": (attempts,),
        "cache_write_1h_tokens": (attempts,),
    }
)


class VerdictValues(dict[str, Any]):
    """What is said of an attempt, as values that an expression takes for columns."""

    __getattr__ = dict.__getitem__


class Field(NamedTuple):
    """Something that a settlement says."""

    name: str
    type: TypeEngine[Any]
    read: Callable[[Settlement], Any]

    def bound(self, settlement: Settlement) -> ColumnElement[Any]:
        """Return it as a parameter. NULL has a type, too: a cost that nobody knows is looked at."""
        return cast(self.read(settlement), self.type)


def _said(name: str, type_: TypeEngine[Any]) -> Field:
    return Field(name, type_, attrgetter(name))


def _delay(settlement: Settlement) -> float:
    return min(settlement.delay, LONGEST_DELAY).total_seconds()


FIELDS: tuple[Field, ...] = (
    _said("turn_id", Uuid()),
    _said("session_id", Uuid()),
    _said("fence", BigInteger()),
    _said("state", Text()),
    _said("outcome", Text()),
    _said("gives_attempt_back", Boolean()),
    Field("delay", Double(), _delay),
    _said("finish_reason", Text()),
    _said("provider_ref", Text()),
    _said("native_ref", Text()),
    _said("request_id", Text()),
    _said("model", Text()),
    _said("error_code", Text()),
    _said("error_detail", Text()),
    *(_said(name, BigInteger()) for name in COUNTS),
    _said("usage", Text()),  # JSON: a list
    _said("service_tier", Text()),
    _said("cost_usd", Dollars()),
    _said("priced", Boolean()),
    _said("priced_by", Text()),
    _said("provider_ms", Integer()),
    _said("first_token_ms", Integer()),
    _said("estimated", Boolean()),
    _said("waits_for", Text()),
    _said("own_history", Text()),
    _said("target", Integer()),
    _said("benched", Integer()),
    _said("given_up", Integer()),
    _said("answered_because", Text()),
    _said("answered_by", Text()),
    _said("unsettled", Boolean()),
    _said("reconciles", Boolean()),
)


def values_of(settlement: Settlement) -> VerdictValues:
    """Return all that one settlement says, as parameters of a statement."""
    return VerdictValues({field.name: field.bound(settlement) for field in FIELDS})


def writing_content(settlements: Iterable[Settlement]) -> list[SessionId]:
    """Return the sessions of those that bring what somebody has said."""
    return [
        one.session_id
        for one in settlements
        if one.replies or one.partial or one.error_detail is not None
    ]


def row_of(settlement: Settlement, sealer: Sealer | None) -> dict[str, Any]:
    """Return what the settlement says, by field, without what is NULL: half of it, of most."""
    row = {name: said for name, _, read in FIELDS if (said := read(settlement)) is not None}
    if sealer is not None and settlement.error_detail is not None:
        ids = (settlement.session_id, settlement.turn_id, settlement.fence)
        row["error_detail"] = sealer.detail(*ids, settlement.error_detail)
    return row


def added(table: Table) -> dict[str, Callable[..., Any]]:
    """Return the sums of this table, each as an expression over the row and the verdict."""

    def more(name: str) -> Callable[..., Any]:
        if table.c[name].server_default is None:  # nothing has been said so far
            return lambda row, v, *_: func.coalesce(row[name], 0) + v[name]
        if table is sessions:
            return lambda row, v, *_: row[name] + func.coalesce(v[name], 0)
        return lambda row, v, *_: row[name] + v[name]

    return {name: more(name) for name, summed_by in COUNTS.items() if table in summed_by}


def spent(row: Any, v: Any, *_: Any) -> Any:
    """Add the cost, if that is known: an unknown one is never 0."""
    more = func.coalesce(row.cost_usd, 0) + v.cost_usd
    return case((v.cost_usd.is_(None), row.cost_usd), else_=more)


#: Of an attempt: what its usage and its cost are by. Of several calls the last one says the tier.
_WHAT_FOR: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "usage": lambda a, v, *_: json_joined(a.usage, v.usage),
        "service_tier": lambda a, v, *_: func.coalesce(v.service_tier, a.service_tier),
        "priced_by": lambda a, v, *_: func.coalesce(v.priced_by, a.priced_by),
    }
)

#: What one call more of an attempt has used: column → what it becomes, by table.
USED: Mapping[Table, Mapping[str, Callable[..., Any]]] = MappingProxyType(
    {
        turns: {**added(turns), "cost_usd": spent},
        attempts: {**added(attempts), **_WHAT_FOR, "cost_usd": spent},
        sessions: {
            **added(sessions),
            "cost_usd": lambda s, v: s.cost_usd + func.coalesce(v.cost_usd, 0),
        },
    }
)


def _in(state: Any, *states: TurnState) -> Any:
    return state.in_(sorted(one.value for one in states))


def _one_if(condition: Any) -> Any:
    return case((condition, 1), else_=0)


def _unless_said(name: str) -> Callable[..., Any]:
    return lambda t, v: func.coalesce(v[name], t[name])


def _costs_none(t: Any, v: Any) -> Any:
    """Tell whether the attempt is given back: a question has taken none.

    But for one that the turn is tried again after, with another target, though it has no more.
    """
    past_the_last = and_(v.state == TurnState.RETRYING.value, t.attempt >= t.max_attempts)
    return and_(v.gives_attempt_back, or_(t.claimed_for == "send", past_the_last))


def _given_back(row: Any, v: Any, kind: str) -> Any:
    return and_(v.state == TurnState.QUEUED.value, row.claimed_for == kind)


#: Column → what it becomes, from the turn as it stands and the verdict. A turn that is given back
#: goes to where it was claimed from: a question is not a call, and must not become one because the
#: worker that asked it ends.
OF_TURN: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "state": lambda t, v: case(
            (t.cancel_requested, TurnState.CANCELLED.value),
            (_given_back(t, v, "check"), TurnState.UNKNOWN.value),
            (_given_back(t, v, "resume"), TurnState.WAITING.value),
            else_=v.state,
        ),
        "attempt": lambda t, v: t.attempt - _one_if(_costs_none(t, v)),
        # What was put off was no claim in vain, of which there may only be so many.
        "put_off": lambda t, v: t.put_off + _one_if(v.waits_for.is_not(None)),
        "waits_for": lambda t, v: case((not_(t.cancel_requested), v.waits_for)),
        "available_at": lambda t, v: db_after(v.delay),
        "lease_owner": lambda t, v: null(),
        "lease_until": lambda t, v: null(),
        "native_ref": lambda t, v: case(
            (v.state == TurnState.QUEUED.value, t.native_ref), else_=v.native_ref
        ),
        "error_code": lambda t, v: case(
            (t.cancel_requested, TurnState.CANCELLED.value), else_=v.error_code
        ),
        "finish_reason": lambda t, v: v.finish_reason,
        "own_history": lambda t, v: func.coalesce(v.own_history, t.own_history),
        **{name: _unless_said(name) for name in ("target", "benched", "given_up")},
        "answered_because": _unless_said("answered_because"),
        "answered_by": lambda t, v: v.answered_by,
        **added(turns),
        "cost_usd": spent,
        "finished_at": lambda t, v: case((or_(t.cancel_requested, _in(v.state, *FINAL)), db_now())),
    }
)

#: The same of the attempt; `state` is what the turn has become.
OF_ATTEMPT: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "ended_at": lambda a, v, state: db_now(),
        "outcome": lambda a, v, state: case(
            (state == TurnState.CANCELLED.value, TurnState.CANCELLED.value), else_=v.outcome
        ),
        "put_off": lambda a, v, state: a.put_off + _one_if(v.waits_for.is_not(None)),
        "error_code": lambda a, v, state: v.error_code,
        "error_detail": lambda a, v, state: v.error_detail,
        "provider_request_id": lambda a, v, state: v.request_id,
        "model": lambda a, v, state: v.model,
        **added(attempts),
        **_WHAT_FOR,
        "cost_usd": spent,
        "provider_ms": lambda a, v, state: func.coalesce(a.provider_ms, 0) + v.provider_ms,
        "first_token_ms": lambda a, v, state: v.first_token_ms,
        # A look at work that goes on tells nothing: what was booked for it is an estimate still.
        "estimated": lambda a, v, state: or_(a.estimated, v.estimated),
    }
)


def _failed(state: Any) -> Any:
    return _in(state, TurnState.FAILED, TurnState.DEAD)


#: The same of the session, but for its head: each engine has its own way to find the next one.
OF_SESSION: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "unfinished": lambda s, v, state: s.unfinished - _one_if(_in(state, *FINAL)),
        "status": lambda s, v, state: case(
            (
                and_(
                    s.on_failure == OnFailure.PAUSE.value,
                    s.status == SessionStatus.ACTIVE.value,
                    _failed(state),
                ),
                SessionStatus.PAUSED.value,
            ),
            else_=s.status,
        ),
        "provider_ref": lambda s, v, state: case(
            (state == TurnState.CANCELLED.value, s.provider_ref),
            else_=func.coalesce(v.provider_ref, s.provider_ref),
        ),
        "turns_succeeded": lambda s, v, state: (
            s.turns_succeeded + _one_if(state == TurnState.SUCCEEDED.value)
        ),
        "turns_failed": lambda s, v, state: s.turns_failed + _one_if(_failed(state)),
        **added(sessions),
        "cost_usd": lambda s, v, state: s.cost_usd + func.coalesce(v.cost_usd, 0),
        "unpriced_attempts": lambda s, v, state: s.unpriced_attempts + case((v.priced, 0), else_=1),
        "last_active_at": lambda s, v, state: db_now(),
    }
)
