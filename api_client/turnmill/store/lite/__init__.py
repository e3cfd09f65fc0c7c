"""The engine for SQLite, in a file or in memory: the same moves in single steps."""

from turnmill.store.lite.accepting import accept, accept_many, accept_new, start_many
from turnmill.store.lite.alone import (
    announce_due,
    count_due,
    due_suspicions,
    late_heartbeats,
    longest_waits,
    note_announced,
)
from turnmill.store.lite.charging import reserve
from turnmill.store.lite.claiming import claim, claim_due, claim_suspects, extend, still_due
from turnmill.store.lite.looking import (
    backlogs,
    has_been_up,
    history,
    identity,
    notify,
    require_fresh_reads,
    vitals,
)
from turnmill.store.lite.settling import settle
from turnmill.store.lite.sharing import ahead_of, due_by_user
from turnmill.store.lite.staging import stage_lines
from turnmill.store.lite.stepping import advance, begin_calls, end_calls

__all__ = [
    "accept",
    "accept_many",
    "accept_new",
    "advance",
    "ahead_of",
    "announce_due",
    "backlogs",
    "begin_calls",
    "claim",
    "claim_due",
    "claim_suspects",
    "count_due",
    "due_by_user",
    "due_suspicions",
    "end_calls",
    "extend",
    "has_been_up",
    "history",
    "identity",
    "late_heartbeats",
    "longest_waits",
    "note_announced",
    "notify",
    "require_fresh_reads",
    "reserve",
    "settle",
    "stage_lines",
    "start_many",
    "still_due",
    "vitals",
]
