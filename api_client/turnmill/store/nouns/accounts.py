"""Accounts that are closed, and models behind their breaker: for all workers, until one call tells.

An account is that of a key at a provider: of a hash of the key, which stands nowhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import Connection, Table, insert, or_, select, update

from turnmill.domain.bounds import LONGEST_DELAY
from turnmill.domain.closing import TIER
from turnmill.domain.ids import TurnId
from turnmill.domain.states import EventKind
from turnmill.store.engine import engine_of
from turnmill.store.schema.event_tables import events
from turnmill.store.schema.limit_tables import accounts
from turnmill.store.types import db_after, db_asof, db_now, insert_into
from turnmill.wire import ACCOUNTS_CHANNEL

ACCOUNT = "account"
BREAKER = "breaker"

#: One that has been open for this long is not closed in a row any more.
_FORGOTTEN = timedelta(minutes=2)
#: So many answers since it was opened undo one time of those in a row.
_UNDONE_BY = 10
_NOBODY = UUID(int=0)
#: So much of a wait is no other wait.
_THE_SAME = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKey:
    """What is closed."""

    kind: str  #: account or breaker
    provider: str
    account: str = ""  #: some digits of a hash of the key; of a breaker: ""
    model: str = ""  #: "": all of them
    tier: str = ""  #: of service, which has room of its own; "": all of them

    @property
    def id(self) -> UUID:
        """The id of its row, and of its events."""
        named = "\n".join((self.kind, self.provider, self.in_row, self.model))
        return uuid5(NAMESPACE_OID, f"turnmill:{named}")

    @property
    def in_row(self) -> str:
        """What its row has for the account: workers of before know no tiers, and pass it over."""
        return f"{self.account}{TIER}{self.tier}" if self.tier else self.account


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRecord:
    """What nobody calls at the moment, and why."""

    id: UUID  #: `session_id` of its events
    kind: str  #: `account`: of a key; `breaker`: a model that hangs or fails
    provider: str
    account: str  #: some digits of a hash of the key; "" where there is none
    model: str | None  #: None: all of them
    tier: str | None  #: of service; None: all of them
    code: str  #: why: the provider's code, such as `rate_limit_exceeded`
    permanent: bool  #: somebody has to set it right: a quota, a bill, a key
    closed_at: datetime
    closed_until: datetime  #: one call tries it from then on
    times: int  #: in a row
    turn_id: TurnId | None = field(default=None)  #: that was refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """The same, as a worker goes by it."""

    key: AccountKey
    n: int  #: of this closing
    code: str
    permanent: bool
    left: timedelta  #: until one call may try it


def list_closed(conn: Connection) -> list[AccountRecord]:
    """Return all that is closed, by provider and model."""
    c = accounts.c
    rows = conn.execute(
        select(accounts).where(c.closed_at.is_not(None)).order_by(c.provider, c.model, c.kind, c.id)
    )
    return [_record(row) for row in rows]


def read_closed(conn: Connection) -> list[Closed]:
    """Return what all workers go by."""
    c = accounts.c
    rows = conn.execute(select(accounts, db_asof().label("now")).where(c.closed_at.is_not(None)))
    return [_closed(row) for row in rows]


def close(
    conn: Connection,
    key: AccountKey,
    *,
    wait: Callable[[int], timedelta],
    code: str,
    permanent: bool = False,
    turn_id: TurnId | None = None,
    seen: int = 0,
    answered: int = 0,
) -> Closed:
    """Let nobody call it for as long as `wait` says of the number of times in a row.

    `answered` is how many calls of the worker that says so were answered since it was opened. A
    provider that refuses now and then, and answers most, is never left alone for long.

    `seen` is the number of the closing that the refused call was to try (0: it was open). A call
    that began before it was closed makes it no more closed than it is.
    """
    row = _locked(conn, key)
    if row.closed_at is not None and seen != row.n and (permanent <= row.permanent):
        return _longer(conn, key, row, wait)
    is_new = row.closed_at is None
    recent = row.opened_at is not None and row.now - row.opened_at < _FORGOTTEN
    undone = answered // _UNDONE_BY if is_new else 0  # a try that fails tells that it is closed
    times = max(row.times + 1 - undone, 1) if recent or not is_new else 1
    values: dict[str, Any] = {
        "code": code,
        "permanent": permanent,
        "n": row.n + 1,
        "times": times,
        "closed_at": db_now() if is_new else row.closed_at,
        "closed_until": db_after(min(wait(times), LONGEST_DELAY).total_seconds()),
        "probe_owner": None,
        "probe_until": None,
        "turn_id": turn_id,
    }
    if key.kind == ACCOUNT and (is_new or permanent > row.permanent):
        values["events"] = _tell_of(conn, row, EventKind.ACCOUNT_CLOSED, turn_id)
    return _moved(conn, key, values)


def open_again(conn: Connection, key: AccountKey, *, seen: int | None = None) -> bool:
    """Let everybody call it; False where it is open, or was closed again since `seen`."""
    row = _locked(conn, key)
    if row.closed_at is None or (seen is not None and seen != row.n):
        return False
    values: dict[str, Any] = {
        "closed_at": None,
        "permanent": False,
        "opened_at": db_now(),
        "probe_owner": None,
        "probe_until": None,
    }
    if seen is None:
        values["times"] = 0
    if key.kind == ACCOUNT:
        values["events"] = _tell_of(conn, row, EventKind.ACCOUNT_OPENED, row.turn_id)
    _moved(conn, key, values)
    return True


def probe(conn: Connection, key: AccountKey, *, n: int, owner: str, lease: timedelta) -> bool:
    """Be the one who tries it; False where it is not time yet, or somebody else does.

    Whoever tries it says so again before the lease ends; one that is gone loses it.
    """
    c = accounts.c
    free = or_(c.probe_until.is_(None), c.probe_until <= db_asof(), c.probe_owner == owner)
    taken = conn.execute(
        update(accounts)
        .where(
            c.id == key.id, c.n == n, c.closed_at.is_not(None), c.closed_until <= db_asof(), free
        )
        .values(probe_owner=owner, probe_until=db_after(lease.total_seconds()))
    )
    return taken.rowcount == 1


def give_probe_back(conn: Connection, key: AccountKey, *, n: int, owner: str) -> None:
    """Let somebody else try it: our call told nothing."""
    c = accounts.c
    conn.execute(
        update(accounts)
        .where(c.id == key.id, c.n == n, c.probe_owner == owner)
        .values(probe_owner=None, probe_until=None)
    )


def id_of(conn: Connection, provider: str, model: str) -> list[AccountKey]:
    """Return what is closed of a provider, or of one of its models."""
    c = accounts.c
    wanted = [c.closed_at.is_not(None), c.provider == provider]
    if model:
        wanted.append(c.model == model)
    rows = conn.execute(select(c.kind, c.provider, c.account, c.model).where(*wanted))
    return [_key(row) for row in rows]


def _locked(conn: Connection, key: AccountKey) -> Any:
    """Return the row, locked, and the database's clock; it is made where there is none."""
    found = _select(key).with_for_update()
    row = conn.execute(found).one_or_none()
    if row is None:
        statement = insert_into(conn, accounts).values(
            id=key.id,
            kind=key.kind,
            provider=key.provider,
            account=key.in_row,
            model=key.model,
            code="",
        )
        conn.execute(statement.on_conflict_do_nothing())
        row = conn.execute(found).one()
    return row


def _select(key: AccountKey) -> Any:
    return select(accounts, db_now().label("now")).where(accounts.c.id == key.id)


def _longer(
    conn: Connection, key: AccountKey, row: Any, wait: Callable[[int], timedelta]
) -> Closed:
    """Note that it is to be left alone for longer than was known; never for less.

    Calls that were in flight together are all told the same, one a little later than the other.
    """
    asked = wait(row.times)
    until = row.now + asked
    if until <= row.closed_until + asked * _THE_SAME:
        return _closed(row)
    return _moved(conn, key, {"closed_until": until})


def _moved(conn: Connection, key: AccountKey, values: dict[str, Any]) -> Closed:
    conn.execute(update(accounts).where(accounts.c.id == key.id).values(values))
    engine_of(conn).notify(conn, ACCOUNTS_CHANNEL, [key.id])
    return _closed(conn.execute(_select(key)).one())


def _tell_of(conn: Connection, row: Any, kind: EventKind, turn_id: TurnId | None) -> int:
    """Write the event under the account's own id and number; the row is locked.

    Events belong to what numbers them: a session in all other cases.
    """
    n: int = row.events + 1
    table: Table = events
    conn.execute(
        insert(table).values(session_id=row.id, n=n, turn_id=turn_id or _NOBODY, kind=kind.value)
    )
    return n


def _key(row: Any) -> AccountKey:
    account, _, tier = row.account.partition(TIER)
    return AccountKey(
        kind=row.kind, provider=row.provider, account=account, model=row.model, tier=tier
    )


def _closed(row: Any) -> Closed:
    left = timedelta(0) if row.closed_until is None else row.closed_until - row.now
    return Closed(
        key=_key(row),
        n=row.n,
        code=row.code,
        permanent=row.permanent,
        left=max(left, timedelta(0)),
    )


def _record(row: Any) -> AccountRecord:
    key = _key(row)
    return AccountRecord(
        id=row.id,
        kind=row.kind,
        provider=row.provider,
        account=key.account,
        model=row.model or None,
        tier=key.tier or None,
        code=row.code,
        permanent=row.permanent,
        closed_at=row.closed_at,
        closed_until=row.closed_until,
        times=row.times,
        turn_id=None if row.turn_id is None else TurnId(row.turn_id),
    )
