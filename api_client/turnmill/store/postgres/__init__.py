"""The engine for a server: one fast statement for each move of a group."""

from turnmill.store.postgres.accepting import (
    accept,
    accept_many,
    accept_new,
    require_fresh_reads,
    start_many,
)
from turnmill.store.postgres.claiming import claim, claim_due, claim_suspects, extend, still_due
from turnmill.store.postgres.looking import backlogs, has_been_up, history, notify, vitals
from turnmill.store.postgres.settling import settle

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
