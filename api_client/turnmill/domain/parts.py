"""What a history is made of."""

from typing import NamedTuple


class Part(NamedTuple):
    """One entry of the history as a provider sees it: a role and its text."""

    role: str  #: user, assistant, tool or system
    text: str
