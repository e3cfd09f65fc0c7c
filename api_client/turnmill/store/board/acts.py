"""What operators do to many turns: which ones are meant, what it may cost, and each of them once.

What is meant is said by a filter and by a moment: turns that came to be so later are not touched.
So the same act done twice is done once, by whomever and whenever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from turnmill.domain.errors import StoreFull
from turnmill.domain.ids import TurnId
from turnmill.domain.states import FINAL, SessionStatus
from turnmill.store.nouns import turns as rows
from turnmill.store.nouns.turns import RETRIED
from turnmill.store.records import Head
from turnmill.store.schema.metadata import sql_list
from turnmill.store.schema.tables import UNFINISHED_SQL
from turnmill.store.schema_name import execute

#: Turns of one act; the same act again takes those that are left.
MOST = 10_000
#: Pairs of provider and model of a preview.
_MOST_MODELS = 50


class Verb(StrEnum):
    """What can be done to many turns."""

    RETRY = "retry"  #: failed and dead ones run again
    CANCEL = "cancel"  #: what is not final ends without a reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """Which turns an act means; None lets all through."""

    verb: Verb
    upto: datetime  #: those that were so at this moment, on the database's clock
    turn: UUID | None = None
    session: UUID | None = None
    batch: UUID | None = None
    state: str | None = None
    code: str | None = None
    lane: str | None = None
    provider: str | None = None

    @property
    def is_of_all(self) -> bool:
        """Tell whether nothing narrows it, but for the batch."""
        others = (self.turn, self.session, self.state, self.code, self.lane, self.provider)
        return others == (None,) * len(others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Those of the turns that one provider and model answers."""

    provider: str
    model: str
    turns: int
    each_usd: Decimal | None  #: what a turn of it came to in the last 30 days; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """How many turns an act means, and what it may cost."""

    turns: int  #: `MOST` at the most
    more: bool  #: there are more than that
    sessions: int
    running: int
    shares: Sequence[Share]

    @property
    def cost_usd(self) -> Decimal | None:
        """Return what it may cost, as far as that is known; None where nothing is."""
        known = [one.turns * one.each_usd for one in self.shares if one.each_usd is not None]
        return sum(known, Decimal(0)) if known else None

    @property
    def unknown(self) -> int:
        """Return for how many turns nobody can say what they may cost."""
        return sum(one.turns for one in self.shares if one.each_usd is None)


_FILTERS = """
    AND (%(turn)s::uuid IS NULL OR t.id = %(turn)s)
    AND (%(session)s::uuid IS NULL OR t.session_id = %(session)s)
    AND (%(batch)s::uuid IS NULL OR t.batch_id = %(batch)s)
    AND (%(state)s::text IS NULL OR t.state = %(state)s)
    AND (%(code)s::text IS NULL OR coalesce(t.error_code, '') = %(code)s)
    AND (%(lane)s::text IS NULL OR t.lane = %(lane)s)
    AND (%(provider)s::text IS NULL OR s.provider = %(provider)s)
"""
_RETRIED_ALREADY = """
    AND NOT EXISTS (SELECT FROM turnmill.turns r
        WHERE r.session_id = t.session_id AND r.seq > t.seq AND r.retry_of = t.id)
"""
_MEANT_BY = {
    Verb.RETRY: f"t.state IN {sql_list(RETRIED)} AND t.finished_at <= %(upto)s{_RETRIED_ALREADY}",
    Verb.CANCEL: f"t.{UNFINISHED_SQL} AND t.created_at <= %(upto)s",
}
# By line and place in it: each session keeps its order.
_CHOSEN = f"""
SELECT t.id, t.session_id, t.state, s.provider, s.model
FROM turnmill.turns t JOIN turnmill.sessions s ON s.id = t.session_id
WHERE {{meant}} AND s.status <> '{SessionStatus.DELETED}'{_FILTERS}
{{order}} LIMIT {MOST + 1}
"""
_IN_ORDER = "ORDER BY t.session_id, t.seq"
_COUNTED = f"""
WITH chosen AS MATERIALIZED ({{chosen}}),
spent AS (
    SELECT provider, model, sum(cost_usd) / nullif(sum(succeeded), 0) AS each_usd
    FROM turnmill.rollups
    WHERE slot > statement_timestamp() - interval '30 days' AND cost_usd > 0 GROUP BY 1, 2
)
SELECT c.provider, c.model, count(*) AS turns, count(*) FILTER (WHERE c.state = 'running')
    AS running, s.each_usd, (SELECT count(DISTINCT session_id) FROM chosen) AS sessions
FROM chosen c LEFT JOIN spent s USING (provider, model)
GROUP BY 1, 2, s.each_usd ORDER BY 3 DESC, 1, 2 LIMIT {_MOST_MODELS}
"""


def preview(conn: Connection, meant: Meant) -> Preview:
    """Count the turns that an act means, and estimate what it may cost."""
    # In any order: none of them is taken.
    chosen = _chosen(meant.verb, order="")
    counted = execute(conn, _COUNTED.format(chosen=chosen), _wanted(meant)).all()
    turns_meant = sum(row.turns for row in counted)
    return Preview(
        turns=min(turns_meant, MOST),
        more=turns_meant > MOST,
        sessions=counted[0].sessions if counted else 0,
        running=sum(row.running for row in counted),
        shares=[
            Share(provider=row.provider, model=row.model, turns=row.turns, each_usd=row.each_usd)
            for row in counted
        ],
    )


def choose(conn: Connection, meant: Meant) -> list[TurnId]:
    """Return the ids of the turns that an act means, session by session in their order."""
    found = execute(conn, _chosen(meant.verb, order=_IN_ORDER), _wanted(meant))
    return [TurnId(row.id) for row in found][:MOST]


def cancel_once(conn: Connection, turn_id: TurnId) -> list[Head] | None:
    """End the turn, or ask its worker to; None where it is final, or that was asked for.

    Raises TurnNotFound.
    """
    turn = rows.get(conn, turn_id)
    if turn.state in FINAL or turn.cancel_requested:
        return None
    return rows.cancel(conn, turn_id)[1]


def ask(conn: Connection, verb: Verb, turn_id: TurnId, *, by: str) -> bool:
    """Note, as a role that may only look, what a dispatcher is to do; False where it cannot be.

    So it is where the turn does not allow it any more, or somebody has asked for it. Raises
    StoreFull while a thousand others wait for a dispatcher.
    """
    asked = f"SELECT turnmill.ask_{verb.value}(%(turn)s::uuid, %(by)s::text)"
    was_noted: bool | None = execute(conn, asked, {"turn": turn_id, "by": by}).scalar()
    if was_noted is None:
        raise StoreFull(
            "as much is asked for already as dispatchers are told at once",
            hint="ask again in a second; where no worker runs, nobody sees to it",
        )
    return was_noted


def _chosen(verb: Verb, *, order: str) -> str:
    return _CHOSEN.format(meant=_MEANT_BY[verb], order=order)


def _wanted(meant: Meant) -> dict[str, Any]:
    return {name: getattr(meant, name) for name in meant.__dataclass_fields__ if name != "verb"}
