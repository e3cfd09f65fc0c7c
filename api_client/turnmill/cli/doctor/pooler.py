"""Whether a pooler stands before the database, how it works, and who is told of what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from turnmill.cli.doctor.findings import Examination, Finding, Findings, note, ok, wrong
from turnmill.domain.errors import StoreError, TurnmillError

if TYPE_CHECKING:
    from turnmill.store.database import Database

_CHANNEL = "turnmill_doctor"
_HEARD_WITHIN_S = 2.0


def check_pooler(examination: Examination) -> Findings:
    """Try its way of working; nothing to say of a server that answers by itself."""
    from turnmill.store.capabilities import Capability
    from turnmill.store.database import Database
    from turnmill.store.pooling import pool_mode

    if examination.database is None or not examination.database.can(Capability.NOTIFY):
        return
    settings = examination.settings
    database = Database(
        settings.database_url,
        schema=settings.schema,
        pool_size=2,
        overflow=0,
        listen_url=settings.listen_url,
    )
    try:
        mode = pool_mode(database)
        if mode is not None:
            yield ok(f"a pooler in {mode} mode: nothing of a session is relied upon")
            yield from _bounds(database)
        if mode is not None or settings.listen_url:
            yield _listening(database)
    finally:
        database.close()


def _bounds(database: Database) -> Findings:
    from turnmill.store.pooling import role_of, unbounded

    with database.begin() as conn:
        missing, role = unbounded(conn), role_of(conn)
    if missing:
        yield note(
            f"what comes through it has no {', '.join(missing)}: the pooler drops them",
            f"turnmill migrate --pooled-role {role}; where that is done: RECONNECT in its console",
        )


def _listening(database: Database) -> Finding:
    if not database.listens_elsewhere:
        return note(
            "results are asked for four times a second: nobody can listen through a pooler",
            "TURNMILL_LISTEN_URL: the same database, past the pooler",
            code="polling",
        )
    try:
        heard = _is_heard(database)
    except TurnmillError as error:
        hint = error.hint.replace("TURNMILL_DATABASE_URL", "TURNMILL_LISTEN_URL")
        reason = error.reason if isinstance(error, StoreError) else ""
        what = f"nobody can listen at TURNMILL_LISTEN_URL: {error}"
        return wrong(what, hint, code=reason or error.code)
    if heard:
        return ok("what happens is heard at TURNMILL_LISTEN_URL")
    return wrong(
        "nothing is heard at TURNMILL_LISTEN_URL",
        "it has to lead to this very database, past a pooler or through one in session mode",
        code="deaf",
    )


def _is_heard(database: Database) -> bool:
    from turnmill.listening.thread import listener_on

    with database.apart() as conn:
        listener = listener_on(conn, [_CHANNEL])
        database.run(lambda other: other.exec_driver_sql(f"NOTIFY {_CHANNEL}"))
        return bool(listener.hear(_HEARD_WITHIN_S))
