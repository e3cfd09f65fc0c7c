"""How decimals are rounded in a worker: money by rules of its own, whatever others have set.

`decimal.getcontext()` may be changed by whoever runs in a task, or a thread, and is then changed
for all that share it: a tool that calculates with three digits would have its turn, and the prices
that are looked up meanwhile, calculated with three.
"""

import contextvars
import decimal
from contextlib import AbstractContextManager

#: What money is calculated by.
MONEY = decimal.Context(prec=28, rounding=decimal.ROUND_HALF_EVEN)


def of_money() -> AbstractContextManager[decimal.Context]:
    """Calculate by the rules of money as long as this is open; nothing is awaited in it."""
    return decimal.localcontext(MONEY)


def apart() -> contextvars.Context:
    """Return the context for code of others, which changes how decimals are rounded for itself."""
    context = contextvars.copy_context()
    context.run(_take_own)
    return context


def _take_own() -> None:
    decimal.setcontext(decimal.getcontext().copy())
