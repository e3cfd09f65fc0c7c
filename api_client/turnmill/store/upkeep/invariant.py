"""A promise as SQL."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Invariant:
    """A promise, and the query for (session_id, turn_id) pairs that break it."""

    name: str
    promise: str
    #: `{sessions}` stands for a condition on `s`, the session; turn_id is NULL where no turn can
    #: be blamed. `{turns}` stands for a condition on `t`, a turn, that holds of all that ended in
    #: a slot or of none; `{slot}` for that slot.
    broken: str
