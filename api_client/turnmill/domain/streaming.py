"""What a reader of a stream is told, and where in a stream something stands."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Self

from turnmill.domain.content import ToolCall, ToolOutput
from turnmill.domain.errors import InvalidInput
from turnmill.domain.states import TurnState

_ID = re.compile(r"(\d{1,18})-(\d{1,18})", re.ASCII)


class StreamKind(StrEnum):
    """What an event of a stream tells of."""

    ATTEMPT_STARTED = "attempt_started"  #: a step of the turn begins; what follows is its text
    DELTA = "delta"  #: more text
    TOOL_CALL = "tool_call"  #: the model wants a tool to be run
    TOOL_OUTPUT = "tool_output"  #: what the tool returned
    ATTEMPT_RESTARTED = "attempt_restarted"  #: the same step again: its text so far is void
    ENDED = "ended"  #: the turn is final; always the last one


#: Behind these a text begins anew.
STARTS = frozenset({StreamKind.ATTEMPT_STARTED, StreamKind.ATTEMPT_RESTARTED})


class Place(NamedTuple):
    """Where an event stands in the stream of its turn."""

    fence: int  #: of the attempt; a later one has a higher number
    n: int  #: from 1, without gaps

    def __str__(self) -> str:
        return f"{self.fence}-{self.n}"

    @classmethod
    def of(cls, given: object) -> Self | None:
        """Read an event's id; None stands for the beginning. Raises InvalidInput."""
        if given is None:
            return None
        found = _ID.fullmatch(given) if isinstance(given, str) else None
        if found is None:
            raise InvalidInput("after must be the id of an event", hint='such as "7-12"')
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """Something that happened to a turn while it was watched."""

    id: str  #: goes into `after` of a later call, which begins behind it
    kind: StreamKind
    text: str = field(default="", repr=False)  #: of a delta
    call: ToolCall | None = None  #: of a tool_call
    output: ToolOutput | None = None  #: of a tool_output
    state: TurnState | None = None  #: of ended: how the turn has ended
    error_code: str | None = None  #: of ended, where there is no reply
    attempt: int = 0  #: which attempt it belongs to; 0: none was made
    step: int = 1  #: which model call of the turn
