"""What an alert says is true of small amounts, too."""

import pytest

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alert_words import sentence


@pytest.mark.parametrize(
    ("value", "usual", "said"),
    [
        (31.2, 9.8, "an hour cost $31.20; $9.80 is usual"),
        (1234.5, 0.0, "an hour cost $1,234.50; $0.00 is usual"),
        (0.1, 0.099, "an hour cost $0.10; $0.099 is usual"),
        (0.0041, 0.00123, "an hour cost $0.0041; $0.0012 is usual"),
        (0.000031, None, "an hour cost $0.000031"),
    ],
)
def test_what_an_hour_cost_is_more_than_nothing(
    value: float, usual: float | None, said: str
) -> None:
    assert sentence(Rule.COST, "", value=value, usual=usual) == said


def test_a_budget_of_a_fraction_of_a_cent_is_named_with_its_limit() -> None:
    said = sentence(Rule.BUDGET, "b", value=0.0061, usual=0.004)
    assert said == "the budget b is heading for $0.0061, beyond its limit of $0.0040"
