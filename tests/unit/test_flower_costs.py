"""What the tab and the gauges show of money where there are more models than they tell apart."""

import re
from decimal import Decimal

from turnmill.store.board.spending import MOST_MODELS, Spent
from turnmill_worker.flower.gauges import OTHER, _of_money
from turnmill_worker.flower.loading import Loader
from turnmill_worker.flower.words import Words


def spent(n: int) -> list[Spent]:
    cent = Decimal("0.01")
    return [
        Spent(
            provider="mock",
            model=f"model-{number}",
            today_usd=cent,
            month_usd=2 * cent,
            today_turns=1,
            month_turns=3,
            unpriced=0,
        )
        for number in range(n)
    ]


def rows(n: int) -> list[str]:
    page = Loader("", autoescape="xhtml_escape").load("turnmill/costs.html")
    shown = page.generate(spent=spent(n), most=MOST_MODELS, w=Words(None)).decode()
    return [re.sub(r"\s*<[^>]+>\s*", " ", row) for row in shown.split("<tr>")[2:]]


def test_models_beyond_the_most_are_told_as_one_sum() -> None:
    assert len(rows(MOST_MODELS)) == MOST_MODELS
    *shown, rest = rows(MOST_MODELS + 3)
    assert len(shown) == MOST_MODELS
    assert rest.split() == ["3", "more,", "together", "$0.03", "$0.06", "9"]


def test_gauges_add_up_to_what_the_tab_shows() -> None:
    [family] = _of_money(spent(MOST_MODELS + 3))
    of_month = {
        one.labels["model"]: one.value for one in family.samples if one.labels["period"] == "month"
    }
    assert len(of_month) == MOST_MODELS + 1
    assert of_month[OTHER] == 0.06
