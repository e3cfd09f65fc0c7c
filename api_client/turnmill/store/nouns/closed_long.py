"""For how long what is closed has been so, as long as anybody comes to try it."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, select

from turnmill.store.nouns.accounts import list_closed
from turnmill.store.types import db_asof

#: What nobody has tried for so long, though he might, is closed for nobody.
_TRIED_WITHIN = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedFor:
    """An account, or the breaker of a model, that keeps calls waiting."""

    kind: str  #: account or breaker
    provider: str
    model: str  #: "": all of them
    tier: str  #: of service; "": all of them
    permanent: bool  #: somebody has to set it right
    lasted: timedelta


def closed_for(conn: Connection) -> list[ClosedFor]:
    """Return all that is closed, but for what nobody comes to try any more.

    Such is the account of a key that was replaced, and one that said later to the last call of a
    day: they are as they were until the next call, and nobody waits for them.
    """
    now = conn.scalars(select(db_asof())).one()
    return [
        ClosedFor(
            kind=one.kind,
            provider=one.provider,
            model=one.model or "",
            tier=one.tier or "",
            permanent=one.permanent,
            lasted=max(now - one.closed_at, timedelta(0)),
        )
        for one in list_closed(conn)
        if now - one.closed_until < _TRIED_WITHIN
    ]
