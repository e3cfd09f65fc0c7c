"""Limits: what providers may be asked, and what of it is given away; shared by all workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select, update

from turnmill.domain import pacing
from turnmill.domain.errors import LimitNotFound
from turnmill.domain.pacing import Answer, Ask, Given, Rates
from turnmill.store.engine import engine_of
from turnmill.store.schema.limit_tables import limits, permits
from turnmill.store.types import db_after, db_asof, db_now, insert_into
from turnmill.wire import ACCOUNTS_CHANNEL

#: Of `limits.account`: somebody has set it, and it goes for all accounts together.
SET = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRecord:
    """What a provider, or one of its models, may be asked. None: there is no such limit."""

    provider: str
    model: str | None  #: None: all of them together
    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None  #: calls in flight, of all workers
    learned: bool  #: the vendor has said so; what is set goes before
    at: datetime  #: since when it is so


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitKey:
    """Which limit it is."""

    provider: str
    account: str = SET
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit as workers go by it."""

    key: LimitKey
    rates: Rates
    concurrent: int | None
    idle: float  #: for so many seconds nobody has called, who could have
    is_waited_for: bool  #: by turns that have a place


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Of the calls at once, what a worker holds."""

    held: int
    is_full: bool  #: all are held, by whomever


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a worker would like to be given for a short while ahead."""

    asks: Sequence[Ask] = ()
    more: Mapping[str, int] = field(default_factory=dict)  #: places beyond theirs, in each line
    unused: int = 0  #: calls that were given before, and were not made
    unused_tokens: int = 0  #: that were given before, and not used; less than 0: more were


def set_limit(
    conn: Connection,
    key: LimitKey,
    *,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrent: int | None,
) -> LimitRecord:
    """Write the limit in the place of what stood there."""
    says: dict[str, Any] = {
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrent": concurrent,
        "at": db_now(),
    }
    before = _locked(conn, key)
    identity = {"provider": key.provider, "account": key.account, "model": key.model}
    statement = insert_into(conn, limits).values(**identity, **says)
    conn.execute(
        statement.on_conflict_do_update(index_elements=list(limits.primary_key), set_=says)
    )
    after = Rates(requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute)
    if before is not None and after != _rates(before):
        now = before.now.timestamp()
        _write(conn, key, pacing.changed(_given(before), _rates(before), after, now=now))
    tell(conn)
    found = get_limit(conn, key)
    assert found is not None
    return found


def get_limit(conn: Connection, key: LimitKey) -> LimitRecord | None:
    """Return the limit, or None where there is none."""
    row = conn.execute(select(limits).where(*_is(key))).one_or_none()
    return None if row is None else _record(row)


def list_limits(conn: Connection) -> list[LimitRecord]:
    """Return all of them: by provider and model, those that were set first."""
    rows = conn.execute(
        select(limits).order_by(limits.c.provider, limits.c.model, limits.c.account)
    )
    return [_record(row) for row in rows]


def remove_limit(conn: Connection, provider: str, model: str) -> None:
    """Take the limit away, and what was learned of the same; the vendor may say it again.

    Raises LimitNotFound where there is neither.
    """
    gone = delete(limits).where(limits.c.provider == provider, limits.c.model == model)
    if not conn.execute(gone).rowcount:
        raise LimitNotFound()
    mine = (permits.c.provider == provider, permits.c.model == model)
    conn.execute(delete(permits).where(*mine))
    tell(conn)


def learn(conn: Connection, key: LimitKey, rates: Rates, *, hold: float | None) -> None:
    """Note what the vendor says of an account; with `hold`, nothing is left for so many seconds."""
    says: dict[str, Any] = {
        "requests_per_minute": rates.requests_per_minute,
        "tokens_per_minute": rates.tokens_per_minute,
        "at": db_now(),
    }
    identity = {"provider": key.provider, "account": key.account, "model": key.model}
    statement = insert_into(conn, limits).values(**identity, **says)
    conn.execute(
        statement.on_conflict_do_update(index_elements=list(limits.primary_key), set_=says)
    )
    if hold is not None:
        row = _locked(conn, key)
        if row is not None:
            given = pacing.hold_until(_given(row), row.now.timestamp() + hold)
            _write(conn, key, given)
    tell(conn)


def read_limits(conn: Connection) -> list[Limit]:
    """Return what all workers go by."""
    return [_limit(row) for row in conn.execute(select(limits, db_asof().label("now")))]


def take(conn: Connection, key: LimitKey, wanted: Wanted) -> Answer | None:
    """Take what is given, in the caller's transaction; None where there is no such limit.

    One row, locked for a moment: about once a second and worker.
    """
    row = _locked(conn, key)
    if row is None:
        return None
    rates = _rates(row)
    given = pacing.take_back(_given(row), rates, calls=wanted.unused, tokens=wanted.unused_tokens)
    found, given = pacing.answer(
        given, rates, wanted.asks, more=wanted.more, now=row.now.timestamp()
    )
    _write(conn, key, given)
    return found


def share(
    conn: Connection, key: LimitKey, *, owner: str, wanted: int, for_seconds: float
) -> Share | None:
    """Hold up to `wanted` of the calls at once, for so long; None where there is no such limit.

    What others hold is theirs until they give it back, or it has run out: then their process is
    gone. 0 gives all back.
    """
    row = _locked(conn, key)
    if row is None or row.concurrent is None:
        return None
    mine = (permits.c.provider == key.provider, permits.c.model == key.model)
    conn.execute(delete(permits).where(*mine, permits.c.until <= db_asof()))
    others = conn.scalar(
        select(func.coalesce(func.sum(permits.c.held), 0)).where(*mine, permits.c.owner != owner)
    )
    held = max(0, min(wanted, row.concurrent - int(others or 0)))
    if not held:
        conn.execute(delete(permits).where(*mine, permits.c.owner == owner))
        return Share(held=0, is_full=int(others or 0) >= row.concurrent)
    says: dict[str, Any] = {"held": held, "until": db_after(for_seconds)}
    statement = insert_into(conn, permits).values(
        provider=key.provider, model=key.model, owner=owner, **says
    )
    conn.execute(
        statement.on_conflict_do_update(index_elements=list(permits.primary_key), set_=says)
    )
    return Share(held=held, is_full=held + int(others or 0) >= row.concurrent)


def tell(conn: Connection) -> None:
    """Have workers look at limits and accounts at once."""
    engine_of(conn).notify(conn, ACCOUNTS_CHANNEL, [""])


def _locked(conn: Connection, key: LimitKey) -> Any:
    return conn.execute(_one(key).with_for_update()).one_or_none()


def _one(key: LimitKey) -> Select[Any]:
    return select(limits, db_now().label("now")).where(*_is(key))


def _is(key: LimitKey) -> tuple[Any, ...]:
    c = limits.c
    return (c.provider == key.provider, c.account == key.account, c.model == key.model)


def _rates(row: Any) -> Rates:
    return Rates(
        requests_per_minute=row.requests_per_minute, tokens_per_minute=row.tokens_per_minute
    )


def _given(row: Any) -> Given:
    places = row.places if isinstance(row.places, dict) else {}
    return Given(requests_until=row.requests_until, tokens_until=row.tokens_until, places=places)


def _limit(row: Any) -> Limit:
    given, now = _given(row), row.now.timestamp()
    return Limit(
        key=LimitKey(provider=row.provider, account=row.account, model=row.model),
        rates=_rates(row),
        concurrent=row.concurrent,
        idle=now - max(given.requests_until, given.tokens_until),
        is_waited_for=any(end > now + pacing.EARLY for end in given.places.values()),
    )


def _write(conn: Connection, key: LimitKey, given: Given) -> None:
    conn.execute(
        update(limits)
        .where(*_is(key))
        .values(
            requests_until=given.requests_until,
            tokens_until=given.tokens_until,
            places=dict(given.places),
        )
    )


def _record(row: Any) -> LimitRecord:
    return LimitRecord(
        provider=row.provider,
        model=row.model or None,
        requests_per_minute=row.requests_per_minute,
        tokens_per_minute=row.tokens_per_minute,
        concurrent=row.concurrent,
        learned=row.account != SET,
        at=row.at,
    )
