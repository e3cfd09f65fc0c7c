"""What is said in the demo, and which accidents happen in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from turnmill.domain.states import TurnState

#: Asked where only the provider is named: cheap, quick, and with a known price.
MODELS: Mapping[str, str] = MappingProxyType(
    {"mock": "mock", "openai": "gpt-5-mini", "anthropic": "claude-haiku-4-5"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message."""

    text: str = field(repr=False)
    accident: str = ""  #: what is shown about it; empty where nothing special happens
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  #: of `send`
    ends: TurnState = TurnState.SUCCEEDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One user's session."""

    user: str = field(repr=False)
    lines: Sequence[Line]
    is_staged: bool = False  #: its accidents are scripted, so the mock plays it in any case


def _plain(user: str, *texts: str) -> Conversation:
    return Conversation(user=user, lines=[Line(text=text) for text in texts])


_FAILS_TWICE = Line(
    text="What if the provider is too busy to answer?",
    accident="fails twice, then succeeds",
    options={"metadata": {"mock": {"faults": ["rate_limited", "overloaded"]}}},
)
_DIES = Line(
    text="And if it never has room for this one?",
    accident="fails each time, and is dead after three attempts",
    options={"metadata": {"mock": {"faults": "overloaded"}}, "max_attempts": 3},
    ends=TurnState.DEAD,
)

CONVERSATIONS: Sequence[Conversation] = (
    _plain(
        "ada",
        "Where is my message once send() has returned?",
        "Who asks the provider?",
        "And where is the reply?",
        "Did the three questions stay in order?",
    ),
    _plain(
        "grace",
        "How many workers may answer me at once?",
        "What keeps two of them from answering twice?",
        "What do you remember of this conversation?",
    ),
    _plain(
        "alan",
        "Can a machine wait without holding a process?",
        "A thousand calls at once?",
        "In one process?",
        "And if that process is killed?",
    ),
    Conversation(
        user="edsger",
        lines=[
            Line(text="Is everything going well?"),
            _FAILS_TWICE,
            Line(text="So nobody had to press a button?"),
        ],
        is_staged=True,
    ),
    Conversation(
        user="barbara",
        lines=[
            Line(text="Does one failure stop a whole conversation?"),
            _DIES,
            Line(text="Was the dead one left out of what you remember?"),
        ],
        is_staged=True,
    ),
)

#: So that a vendor is paid for little.
PAID_LINES = 2
PAID_PROMPT = "Answer in one short sentence."
