"""How US dollars are rounded: in one way, by whatever rules an application has for its decimals."""

from decimal import ROUND_HALF_UP, Context, Decimal

#: Of its own: `decimal.getcontext()` is the application's, and may have six digits.
_CONTEXT = Context(prec=60, rounding=ROUND_HALF_UP)
#: Digits that columns of money have: what a sum of floats has behind them is noise.
_KEPT = 10
#: As far as an amount is looked at that is next to nothing.
_MOST_DIGITS = 20


def rounded(amount: Decimal | float, *, digits: int) -> Decimal:
    """Return it with so many digits after the point, and with more where it would be nothing.

    Half of the last digit goes up, as on invoices and in Postgres: of 0.125, cents are 0.13. What
    is so little that nothing would be left keeps the first two digits that say something. A float
    is the nearest amount of the ten digits that are kept: of 9.995, cents are 10.00.
    """
    exact = amount if isinstance(amount, Decimal) else Decimal(repr(round(amount, _KEPT)))
    if not exact.is_finite():
        return exact
    found = _to(exact, digits)
    if exact and not found:
        return _to(exact, min(1 - exact.adjusted(), _MOST_DIGITS))
    return found


def kept(amount: Decimal) -> Decimal:
    """Return it with the ten digits after the point that columns of money have."""
    return _to(amount, _KEPT)


def part_of(amount: Decimal, share: Decimal) -> Decimal:
    """Return so much of it, with the ten digits that are kept."""
    return kept(_CONTEXT.multiply(amount, share))


def less(amount: Decimal, *others: Decimal) -> Decimal:
    """Return what is left of it without these, to the last digit."""
    for one in others:
        amount = _CONTEXT.subtract(amount, one)
    return amount


def _to(amount: Decimal, digits: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-digits), context=_CONTEXT)
