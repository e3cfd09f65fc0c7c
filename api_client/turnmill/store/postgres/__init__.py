"""The engine for a server: one fast statement for each move of a group."""

from collections.abc import Sequence

from sqlalchemy import Connection

from turnmill.store.postgres.accepting import (
    accept,
    accept_many,
    accept_new,
    require_fresh_reads,
    start_many,
)
from turnmill.store.postgres.claiming import claim, claim_due, claim_suspects, extend, still_due
from turnmill.store.postgres.looking import backlogs, has_been_up, history, notify, vitals
from turnmill.store.records import Fenced, Locked, Settled, Settlement

__all__ = [
    "accept",
    "accept_many",
    "accept_new",
    "backlogs",
    "claim",
    "claim_due",
    "claim_suspects",
    "extend",
    "has_been_up",
    "history",
    "notify",
    "require_fresh_reads",
    "settle",
    "start_many",
    "still_due",
    "vitals",
]


def settle(conn: Connection, settlements: Sequence[Settlement]) -> list[Settled | Fenced | Locked]:
    """Write verdicts, at most one for each session, in one statement."""
    # Its statements take 10 ms to build, and whoever imports us to send a message never settles;
    # workers have them from the start, by `line.settle`.
    from turnmill.store.postgres import settling  # noqa: PLC0415

    return settling.settle(conn, settlements)
