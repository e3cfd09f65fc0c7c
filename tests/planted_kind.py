"""What sessions of a planted month are like, kind by kind."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Dollars for a token of input and of output.
_PRICES = (2e-6, 8e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What sessions of a kind are like."""

    provider: str = "openai"
    model: str = "gpt-steady"
    template: str | None = None
    settings: Mapping[str, Any] = field(default_factory=lambda: {"max_output_tokens": 1200})
    lane: str = "interactive"
    turns: tuple[int, int] = (1, 8)
    history: int = 250  #: tokens that each turn adds to the input
    first_input: int = 600
    output: tuple[int, int] = (80, 500)
    prices: tuple[float, float] = _PRICES
    cached: float = 0.8  #: of what was said before; 0: nothing
    bad: float = 0.01  #: share of turns that fail for good
    retried: float = 0.02
    cut: float = 0.0
    tier: str | None = None
    wait: tuple[float, float] = (0.01, 0.4)  #: seconds before a slot is free
    works: tuple[float, float] = (1.0, 6.0)
    pause: tuple[float, float] = (20.0, 200.0)  #: between an answer and the next message
    again: float = 0.0  #: share of messages that are sent before the answer
