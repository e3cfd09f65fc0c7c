"""What the tab and the gauges show where there is more than they tell apart."""

import re
from decimal import Decimal

from turnmill.store.board.spending import MOST_MODELS, Spent
from turnmill_worker.flower.gauges import OTHER, _labelled, _of_money
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
            unpriced_today=0,
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


def test_what_no_price_is_known_of_is_never_shown_as_free() -> None:
    words, half = Words(None), Decimal("0.5")
    assert words.cents(Decimal(0), 3) == words.spent(Decimal(0), 3) == "n/a"
    assert words.cents(half, 3) == words.spent(half, 3) == "$0.5+"
    assert words.cents(Decimal(0), 0) == words.spent(Decimal(0), 0) == "$0"
    assert words.cents(sum((), Decimal(0))) == "$0"


def test_gauges_add_up_to_what_the_tab_shows() -> None:
    [family] = _of_money(spent(MOST_MODELS + 3))
    of_month = {
        one.labels["model"]: one.value for one in family.samples if one.labels["period"] == "month"
    }
    assert len(of_month) == MOST_MODELS + 1
    assert of_month[OTHER] == 0.06


def test_a_label_takes_few_values_and_none_that_says_what_somebody_wrote() -> None:
    values = {"a word\nof somebody's": 1.0} | {f"state-{n}": 1.0 for n in range(200)}
    found = _labelled("board_x", "…", "state", values).samples
    assert len(found) < 60
    assert sum(one.value for one in found) == 201
    assert {one.labels["state"] for one in found} <= {OTHER, *list(values)[1:]}
