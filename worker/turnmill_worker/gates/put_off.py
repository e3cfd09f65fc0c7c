"""What a gate says to whom there is no room for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PutOff:
    """There is no room soon."""

    seconds: float
