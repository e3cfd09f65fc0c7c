"""What a claim is for, and which attempt it belongs to."""

from collections.abc import Mapping
from types import MappingProxyType

from turnmill.domain.states import TurnState

#: What a turn is claimed for, by the state that it waited in; from any other one, to be sent.
KIND: Mapping[TurnState, str] = MappingProxyType(
    {TurnState.UNKNOWN: "check", TurnState.WAITING: "resume"}
)

#: After these, a question is the same attempt as before: it is asked a second time. So is a call
#: that was put off, and was none yet.
GOES_ON = ("waiting", "unanswered", "released", "not_now")

#: Kinds of things that can be paused, besides sessions.
LANE = "lane"
PROVIDER = "provider"
