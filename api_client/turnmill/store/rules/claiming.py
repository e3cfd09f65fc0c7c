"""What a claim is for, and which attempt it belongs to."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from turnmill.domain.states import BETWEEN_STEPS, TurnState
from turnmill.store.records import ClaimKind

#: What a turn is claimed for, by the state that it waited in; from any other one, to be sent.
_KIND: Mapping[TurnState, ClaimKind] = MappingProxyType(
    {TurnState.UNKNOWN: "check", TurnState.WAITING: "resume"}
)

#: A claim from these spends an attempt.
SPENDING = frozenset({TurnState.QUEUED, TurnState.RETRYING})


def kind_of(state: TurnState, waits_for: str | None) -> ClaimKind:
    """Return what a turn is claimed for. One that has stopped between two steps goes on."""
    if state is TurnState.WAITING and waits_for in BETWEEN_STEPS:
        return "send"
    return _KIND.get(state, "send")


def asked_of(found: Sequence[str | None] | None) -> tuple[str, str] | None:
    """Return the provider and the model that an attempt has asked, if both are known."""
    provider, model = found or (None, None)
    return None if provider is None or model is None else (provider, model)


#: After these, a question is the same attempt as before: it is asked a second time. So is a call
#: that was put off, and was none yet.
GOES_ON = ("waiting", "unanswered", "released", "not_now")

#: Kinds of things that can be paused, besides sessions.
LANE = "lane"
PROVIDER = "provider"
