"""The names that clients and workers share: tasks, queues, channels."""

from turnmill.domain.states import Lane

RUN_TURN = "turnmill.run_turn"  #: args: [turn id]; the task id is the turn id
RUN_BULK = "turnmill.run_bulk"  #: args: []; takes what is due in the bulk lane
RUN_QUARANTINE = "turnmill.run_quarantine"  #: args: []; takes what is due in quarantine
ARCHIVE_IDLE = "turnmill.archive_idle_sessions"
LOOK_FOR_ALERTS = "turnmill.look_for_alerts"
MAKE_REPORT = "turnmill.make_report"
FIND_TOPICS = "turnmill.find_topics"
POLL_BATCHES = "turnmill.poll_batches"
PURGE = "turnmill.purge"
ROLL_UP_USAGE = "turnmill.roll_up_usage"
SELF_CHECK = "turnmill.self_check"
TEND_TRIALS = "turnmill.tend_trials"

ABOUT = "turnmill_about"  #: the inspection that a worker answers with what it is

PROVIDERS = "turnmill.providers"  #: the group of entry points that register them
TRANSCRIBERS = "turnmill.transcribers"  #: of those who turn sounds into words
SPEAKERS = "turnmill.speakers"  #: and words into sounds
JUDGES = "turnmill.judges"  #: of functions that make vectors of replies, to compare them by

UPKEEP_QUEUE = "turnmill.upkeep"  #: what beat sends
DEFAULT_QUEUE = "turnmill.default"  #: tasks of the user's own app

LANE_QUEUES = {lane: f"turnmill.{lane}" for lane in Lane}

#: Postgres NOTIFY channels. Payloads are ids only, and all of them may be lost at no cost.
WAKE_CHANNEL = "turnmill_wake"  #: a turn was committed in a caller's own transaction
CANCEL_CHANNEL = "turnmill_cancel"  #: payload: turn id whose call is to be closed
SETTLED_CHANNEL = "turnmill_settled"  #: payload: turn ids that are final, joined by ","
ACCOUNTS_CHANNEL = "turnmill_accounts"  #: payload: id of an account, or "": look at limits, too
