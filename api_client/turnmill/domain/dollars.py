"""How US dollars are rounded where they are shown: in one way, whoever shows them."""

from decimal import ROUND_HALF_UP, Context, Decimal

#: Of its own: what an application has set for its sums, or a tool for those of its thread, is not
#: for what is shown here.
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


def _to(amount: Decimal, digits: int) -> Decimal:
    return amount.quantize(Decimal(1).scaleb(-digits), context=_CONTEXT)
