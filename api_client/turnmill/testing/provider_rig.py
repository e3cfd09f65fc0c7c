"""What the contract suite needs to know of a provider, and of the stand-in for its vendor."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from turnmill.domain import errors
from turnmill.domain.content import Message
from turnmill.domain.ids import SessionId, TurnId
from turnmill_worker.providers.port import Done, Provider, Request


class Fault(StrEnum):
    """What a stand-in can be told to do to every request from now on."""

    OVERLOADED = "overloaded"  #: has no capacity; executes nothing
    RATE_LIMITED = "rate_limited"  #: asks to wait for seven seconds; executes nothing
    REFUSED = "refused"  #: refuses it for good; executes nothing
    SERVER_ERROR = "server_error"  #: breaks, and does not say how far it came: a 500
    CUT = "cut"  #: executes it; the answer breaks off half-way
    UNREADABLE = "unreadable"  #: executes it; the answer arrives whole and makes no sense
    THREAD_LOST = "thread_lost"  #: has forgotten all threads
    NO_USAGE = "no_usage"  #: answers, and does not say how many tokens that took
    BACKGROUND = "background"  #: works in the background, and is done when it is looked at
    HANG = "hang"  #: takes the request and never answers
    UNREACHABLE = "unreachable"  #: takes no connection; there is no way back from this one


#: What a call has to raise, so that the right thing is done about it.
MEANING: Mapping[Fault, type[errors.ProviderError]] = MappingProxyType(
    {
        Fault.OVERLOADED: errors.Overloaded,
        Fault.RATE_LIMITED: errors.RateLimited,
        Fault.REFUSED: errors.Rejected,
        Fault.SERVER_ERROR: errors.MaybeSent,
        Fault.CUT: errors.MaybeSent,
        Fault.UNREADABLE: errors.Rejected,
        Fault.UNREACHABLE: errors.NotSent,
    }
)

#: How long a stand-in that limits the rate asks to wait.
WAIT_SECONDS = 7


@dataclass(kw_only=True)
class Rig:
    """A provider with the stand-in for its vendor.

    Where it has no vendor, or the stand-in cannot do something, leave that out: the promises that
    cannot be put to it are skipped, and say what they lack. The stand-in answers with a text that
    contains the digits of the message that it was sent, so that replies can be told apart.
    """

    provider: Provider
    model: str = "model-1"
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)  #: of every session
    faults: Collection[Fault] = ()  #: what `meet` knows
    #: settings with which a call is given up within a second; None: it asks nobody outside
    impatient: Mapping[str, Any] | None = field(
        default_factory=lambda: {"timeout": 0.2}, repr=False
    )
    #: settings that it refuses
    unusable: Mapping[str, Any] | None = field(default=None, repr=False)
    #: variables without which it cannot be made, with values of a test; None: it is not installed
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    another: Callable[[], Provider] | None = None  #: makes a second one, for the same stand-in

    async def meet(self, fault: Fault | None) -> None:
        """Let every request from now on meet this fault; None is none."""
        raise NotImplementedError

    def requests(self) -> int | None:
        """Return how many requests the stand-in has got, or None when it does not count."""
        return None

    def executed(self) -> int | None:
        """Return how many turns the vendor would have charged for, or None as above."""
        return None

    def kept(self) -> Collection[str] | None:
        """Return the ids of what the vendor stores now; None when it stores nothing, ever."""
        return None

    def messages_seen(self, reply: Done) -> int | None:
        """Return how many messages before its own the vendor was shown, or None: it cannot tell."""
        return None

    def request(self, text: str = "Hello", **given: Any) -> Request:
        """Return a request with the model and settings of this rig."""
        settings = {**self.settings, **given.pop("settings", {})}
        return a_request(text, **{"model": self.model, "settings": settings, **given})

    def failures(self) -> Iterator[tuple[Fault, type[errors.ProviderError]]]:
        """Yield the faults that it knows and that end a call, with what each has to raise."""
        return ((fault, MEANING[fault]) for fault in MEANING if fault in self.faults)


def a_request(text: str = "Hello", **given: Any) -> Request:
    """Return a request of a new turn in a new session."""
    defaults: dict[str, Any] = {
        "turn_id": TurnId(uuid4()),
        "session_id": SessionId(uuid4()),
        "attempt": 1,
        "fence": 1,
        "model": "model-1",
        "messages": [Message.of("user", text)],
    }
    return Request(**{**defaults, **given})


def a_history(turns: int) -> list[Message]:
    """Return the messages of that many earlier turns, oldest first."""
    return [
        Message.of(role, f"{said} {number}")
        for number in range(turns)
        for role, said in (("user", "question"), ("assistant", "answer"))
    ]
