"""Dollars: the type of all columns of money, exact where SQLite keeps a number in 8 bytes."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import Dialect, Numeric


class Dollars(Numeric[Decimal]):
    """US dollars, with ten digits after the point.

    SQLite has no such type: it keeps the nearest of the numbers of 8 bytes. Each amount of up to 15
    digits has one of its own, and is what that is read as: the shortest amount that is nearest to
    it. Written out to ten digits after the point, from half a million on, it would have digits that
    nobody has written.
    """

    def __init__(self) -> None:
        super().__init__(20, 10)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any] | None:
        """Return what reads an amount; None: the driver does."""
        return None if dialect.supports_native_decimal else _read


def _read(value: float | None) -> Decimal | None:
    # As text once more: whatever somebody has written there, it has ten digits after the point.
    return None if value is None else Decimal(f"{Decimal(repr(value)):.10f}")
