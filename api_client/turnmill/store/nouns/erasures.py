"""Erasures of users: asked for, begun, and reported; `erased_rows` has what is done in pieces.

From the commit that begins it nothing new can be written for the user: a trigger refuses it, which
transactions that began before may have passed. So it is over only when those have ended, too.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from math import inf
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Text, and_, cast, delete, func, null, or_, select, update

from turnmill.domain.batches import LineState
from turnmill.domain.errors import UserNotFound
from turnmill.domain.ids import hash_of_user
from turnmill.domain.states import ErasureState
from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.deletion_records import Erasure
from turnmill.store.nouns.holds import is_kept, refuse_kept
from turnmill.store.nouns.users import is_known
from turnmill.store.schema.batch_tables import batch_lines
from turnmill.store.schema.belongings import SPOKEN
from turnmill.store.schema.erasure_tables import BANNED_IN, erasures, holds
from turnmill.store.schema.life_tables import tombstones
from turnmill.store.schema.tables import batches, messages, sessions, turns
from turnmill.store.schema_name import SCHEMA, execute
from turnmill.store.types import (
    db_after,
    db_asof,
    db_now,
    id_text,
    insert_into,
    lock_table,
    seconds_between,
)

#: What is left of a batch by which somebody could tell whose it was, or what was in it.
NAMELESS: Mapping[str, Any] = MappingProxyType(
    {"name": id_text(batches.c.id), "metadata": {}, "content_hash": b""}
)
_NAMES = tuple(erasures.c[name] for name in Erasure.__dataclass_fields__)


def state_of(conn: Connection, user_id: str) -> ErasureState | None:
    """Return how far the user's erasure is; None: there was none."""
    found = conn.scalar(select(erasures.c.state).where(_of(user_id)))
    return None if found is None else ErasureState(found)


def request(conn: Connection, user_id: str, *, reason: str, grace: timedelta) -> ErasureState:
    """Note that the user is to be erased after this time; return how far that is.

    One that was begun goes on as it is, as does one that has ended and of which nothing came back.
    Raises UserNotFound where there is nothing of his and never was, and UserOnHold.
    """
    conn.execute(lock_table(holds))
    refuse_kept(conn, user_id)
    state, known = state_of(conn, user_id), is_known(conn, user_id)
    if state is None and not known:
        raise UserNotFound("nothing is known of such a user, and nothing was erased")
    if state is ErasureState.ERASING:
        return state
    if state is not None and not known:
        return ErasureState.ERASED  # of whoever was let in again nothing has come
    values = _anew(user_id, reason=reason, grace=grace)
    statement = insert_into(conn, erasures).values(user_hash=hash_of_user(user_id), **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["user_hash"], set_=values))
    return ErasureState.WAITING


def renew(conn: Connection, user_id: str) -> None:
    """Let the user be erased again, at once: an older store was put back."""
    values = _anew(user_id, reason="replayed", grace=timedelta(0))
    statement = insert_into(conn, erasures).values(user_hash=hash_of_user(user_id), **values)
    del values["reason"]
    conn.execute(statement.on_conflict_do_update(index_elements=["user_hash"], set_=values))


def _anew(user_id: str, *, reason: str, grace: timedelta) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "state": ErasureState.WAITING.value,
        "reason": reason,
        "requested_at": db_now(),
        "due_at": db_after(grace.total_seconds()),
        "begun_at": None,
        "ended_at": None,
        "unaware": null(),
        "shredded": False,
        "readable_until": None,
        "streams_until": None,
        "rows": {},
        "left_behind": [],
    }


def withdraw(conn: Connection, user_id: str) -> bool:
    """Take back what has not begun; False where nothing waits."""
    waits = erasures.c.state == ErasureState.WAITING
    return conn.execute(delete(erasures).where(_of(user_id), waits)).rowcount > 0


def admit(conn: Connection, user_id: str) -> bool:
    """Let somebody of this id in again who was erased; False where nobody was."""
    ended = erasures.c.state == ErasureState.ERASED
    let_in = update(erasures).where(_of(user_id), ended).values(state=ErasureState.ADMITTED)
    return conn.execute(let_in).rowcount > 0


def seconds_since_end(conn: Connection, user_id: str) -> float:
    """Return how long ago the user's erasure has ended; infinity where none has."""
    ended = and_(_of(user_id), erasures.c.state == ErasureState.ERASED)
    ago = conn.scalar(select(seconds_between(db_now(), erasures.c.ended_at)).where(ended))
    return inf if ago is None else float(ago)


def begin(conn: Connection, user_id: str) -> bool:
    """Let nothing new be written for the user, once his time is over; False where it is not.

    Nor is it while somebody holds what is his.
    """
    conn.execute(lock_table(holds))
    if is_kept(conn, user_id):
        return False
    begun = update(erasures).where(
        _of(user_id), erasures.c.state == ErasureState.WAITING, erasures.c.due_at <= db_asof()
    )
    values = {"state": ErasureState.ERASING.value, "begun_at": db_now()}
    if not conn.execute(begun.values(values)).rowcount:
        return False
    _empty_settings(conn, user_id)
    return True


def _empty_settings(conn: Connection, user_id: str) -> None:
    """Take out what the user has said of lines of batches: of his own, and where all are his.

    Where lines of others wait to become turns, as he has submitted them, they are still asked so.
    """
    line, other = batch_lines.c, batch_lines.alias("other").c
    theirs = select(other.line).where(
        other.batch_id == batches.c.id, func.coalesce(other.user_id, "") != user_id
    )
    his = select(line.batch_id).where(line.user_id == user_id)
    waits = theirs.where(other.turn_id.is_(None), other.state == LineState.STAGED)
    own = and_(batches.c.user_id == user_id, ~waits.exists())
    alone = and_(batches.c.user_id.is_(None), batches.c.id.in_(his), ~theirs.exists())
    emptied = update(batches).where(or_(own, alone), batches.c.settings.cast(Text) != "{}")
    conn.execute(emptied.values(settings={}))


def note_unaware(conn: Connection, user_id: str) -> None:
    """Note which transactions may not know of the beginning: in one that came after it.

    They have written, or are about to, and looked for the erasure before it stood.
    """
    unaware = []
    if Capability.ROW_LOCKS in capabilities_of(conn):
        unaware = list(execute(conn, _WRITING).scalars())
    unknown = erasures.c.unaware.is_(None)
    conn.execute(update(erasures).where(_of(user_id), unknown).values(unaware=unaware))


def note_gone(conn: Connection, user_id: str, what: str, count: int) -> None:
    """Note that so much of something goes."""
    add_rows(conn, user_id, {what: count})


def note_streams(conn: Connection, user_id: str, keeps: timedelta | None) -> None:
    """Note for how long copies of replies may be read yet; None: there are none."""
    until = None if keeps is None else db_after(keeps.total_seconds())
    conn.execute(update(erasures).where(_of(user_id)).values(streams_until=until))


def note_backups(conn: Connection, user_id: str, *, shredded: bool, until: datetime | None) -> None:
    """Note what backups of before tell: nothing, or all, until they expire; the first time."""
    unknown = and_(~erasures.c.shredded, erasures.c.readable_until.is_(None))
    values = {"shredded": shredded, "readable_until": until}
    conn.execute(update(erasures).where(_of(user_id), unknown).values(values))


def says_plainly(conn: Connection, user_id: str) -> bool:
    """Tell whether something that the user has said can be read without his own key.

    It is not encrypted, or it is by the key of somebody else, in whose session he has said it.
    """
    stored = cast(messages.c.content, Text)
    plain = (
        select(messages.c.id)
        .join(turns, turns.c.id == messages.c.turn_id)
        .join(sessions, sessions.c.id == turns.c.session_id)
        .where(sessions.c.user_id == user_id, ~stored.like('"tm1.%'), stored != "[]")
    )
    if conn.execute(plain.limit(1)).first() is not None:
        return True
    for where, who in SPOKEN:
        theirs = (
            select(sessions.c.id)
            .join(who.table, where == sessions.c.id)
            .where(who == user_id, sessions.c.user_id != user_id)
        )
        if conn.execute(theirs.limit(1)).first() is not None:
            return True
    return False


def finish(conn: Connection, user_id: str) -> bool:
    """Let it have ended, and forget who it was; False where something of his may be there yet."""
    if not _is_known_to_all(conn, user_id) or is_known(conn, user_id):
        return False
    went, left_behind = _counted(conn, user_id)
    add_rows(conn, user_id, went)
    ended = update(erasures).where(_of(user_id), erasures.c.state == ErasureState.ERASING)
    values = {
        "state": ErasureState.ERASED.value,
        "user_id": None,
        "ended_at": db_now(),
        "left_behind": left_behind,
    }
    return conn.execute(ended.values(values)).rowcount > 0


def due(conn: Connection, *, limit: int = 100) -> list[str]:
    """Return up to `limit` users whose erasure is to begin, or to go on."""
    found = select(erasures.c.user_id).where(
        erasures.c.user_id.is_not(None), erasures.c.due_at <= db_asof()
    )
    return list(conn.scalars(found.order_by(erasures.c.due_at).limit(limit)))


def find(conn: Connection, *, after: str | None = None, limit: int = 1000) -> list[Erasure]:
    """Return up to `limit` erasures in the order of their hashes; `after` is the last of a page."""
    query = select(*_NAMES).order_by(erasures.c.user_hash).limit(limit)
    if after is not None:
        query = query.where(erasures.c.user_hash > after)
    return [
        Erasure(**{**row._mapping, "state": ErasureState(row.state)}) for row in conn.execute(query)
    ]


def _of(user_id: str) -> Any:
    return erasures.c.user_hash == hash_of_user(user_id)


def _is_known_to_all(conn: Connection, user_id: str) -> bool:
    """Tell whether no transaction is under way that does not know of the beginning."""
    unaware = conn.scalar(select(erasures.c.unaware).where(_of(user_id)))
    if not unaware:
        return unaware is not None
    return not execute(conn, _GOES_ON, {"unaware": unaware}).scalar()


def _counted(conn: Connection, user_id: str) -> tuple[dict[str, int], list[Any]]:
    """Return how many rows went with the user's sessions, and what of them cannot be deleted."""
    rows: Counter[str] = Counter()
    left: list[Any] = []
    found = conn.execute(
        select(tombstones.c.rows, tombstones.c.left_behind)
        .join(erasures, erasures.c.user_hash == tombstones.c.user_hash)
        .where(_of(user_id), tombstones.c.removed_at >= erasures.c.begun_at)
    )
    for row in found:
        rows.update(row.rows)
        left += row.left_behind
    return dict(rows), left


def add_rows(conn: Connection, user_id: str, more: Mapping[str, int]) -> None:
    """Add to the numbers of rows that went. The caller has changed something of the user's."""
    found = conn.execute(
        select(erasures.c.rows).where(_of(user_id)).with_for_update()
    ).scalar_one_or_none()
    if found is None or not any(more.values()):
        return
    rows = Counter(found)
    rows.update({name: count for name, count in more.items() if count})
    conn.execute(update(erasures).where(_of(user_id)).values(rows=dict(rows)))


# Whoever writes to a table holds this lock of it until his transaction ends.
_WRITING = f"""
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
    AND relation IN ({", ".join(f"to_regclass('{SCHEMA}.{one}')" for one in sorted(BANNED_IN))})
"""
_GOES_ON = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'virtualxid' AND virtualxid = ANY(%(unaware)s))
"""
