"""How dollars are rounded where they are shown: the same amount reads the same at every place."""

import decimal
from decimal import Decimal

import pytest

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alert_words import sentence
from turnmill.domain.budgets import next_warning
from turnmill.domain.dollars import rounded
from turnmill.domain.errors import InvalidInput
from turnmill.show.budget_view import money
from turnmill.show.difference_view import dollars as dollars_of_differences
from turnmill.show.report import reading
from turnmill.show.wording import dollars, known_usd
from turnmill.testing import memory_client
from turnmill_worker.flower.words import Words


@pytest.mark.parametrize(
    ("amount", "digits", "read"),
    [
        ("9.995", 2, "10.00"),
        ("1.005", 2, "1.01"),
        ("0.125", 2, "0.13"),
        ("-0.125", 2, "-0.13"),
        ("0.1249999999", 2, "0.12"),
        ("0.5", 0, "1"),
        ("1000.5", 0, "1001"),
        ("9999999999.9999999999", 2, "10000000000.00"),
        ("12345678901234567890.005", 2, "12345678901234567890.01"),
        ("0", 4, "0.0000"),
        ("-0.0", 1, "-0.0"),
        ("0.00004", 4, "0.000040"),
        ("0.0000000001", 2, "0.00000000010"),
        ("-0.00000047", 6, "-0.00000047"),
    ],
)
def test_half_of_the_last_digit_goes_up_and_what_is_something_is_never_nothing(
    amount: str, digits: int, read: str
) -> None:
    assert f"{rounded(Decimal(amount), digits=digits):f}" == read


@pytest.mark.parametrize(
    ("amount", "read"),
    [(9.995, "10.00"), (1.005, "1.01"), (9.994999999999997, "10.00"), (0.1 + 0.2, "0.30")],
)
def test_a_float_is_the_amount_of_ten_digits_that_is_nearest(amount: float, read: str) -> None:
    assert f"{rounded(amount, digits=2):f}" == read


def test_what_an_application_rounds_by_is_not_for_what_is_shown() -> None:
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_DOWN)):
        assert f"{rounded(Decimal('1234.5678'), digits=2):f}" == "1234.57"
        assert dollars(Decimal("1234.5678905")) == "$1234.567891"


def test_an_application_whose_decimals_have_six_digits_sets_budgets_of_more() -> None:
    rough = decimal.Context(prec=6, rounding=decimal.ROUND_DOWN)
    with memory_client() as client, decimal.localcontext(rough):
        found = client.budgets.set(user_id="ada", limit_usd="1234567.89", warn_at=(0.333,))
        assert found.limit_usd == found.left_usd == Decimal("1234567.89")
        session = client.sessions.create(user_id="bob", provider="mock", max_cost_usd=1234.5)
        assert client.budgets.get(session=session).left_usd == Decimal("1234.5")
        with pytest.raises(InvalidInput):
            client.budgets.set(user_id="ada", limit_usd="0.00000000001")
        assert next_warning((0.333,), told=0, limit_usd=found.limit_usd) == Decimal("411111.10737")


@pytest.mark.parametrize("amount", [Decimal("9.995"), Decimal("1234.005"), Decimal("0.125")])
def test_cents_are_the_same_in_reports_alerts_and_flower(amount: Decimal) -> None:
    cents = f"${rounded(amount, digits=2):,f}"
    assert sentence(Rule.COST, "", value=float(amount), usual=None) == f"an hour cost {cents}"
    if amount >= 1:
        assert Words(None).cents(amount) == cents
    if amount < 1000:
        assert reading.money(amount) == reading.money(float(amount)) == cents


@pytest.mark.parametrize("amount", ["0.0000000001", "0.00000004", "0.0000005", "0.000049"])
def test_what_cost_next_to_nothing_is_nowhere_free(amount: str) -> None:
    usd = Decimal(amount)
    free = (dollars(Decimal(0)), known_usd(Decimal(0), unpriced=0), money(Decimal(0)))
    assert dollars(usd) != free[0] and dollars(usd).startswith("$0.0")
    assert known_usd(usd, unpriced=0) != free[1] and Decimal(known_usd(usd, unpriced=0)) > 0
    assert money(usd) != free[2]
    assert reading.money(usd) == "< $0.0001"
    assert float(dollars_of_differences(float(usd)).removeprefix("$")) > 0
