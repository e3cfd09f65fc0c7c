"""Commas in a bill's numbers: between thousands, or before a fraction."""

from decimal import Decimal
from pathlib import Path

import pytest

from turnmill.domain.errors import InvalidBill
from turnmill.verbs.bills import read_bill


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        (b'date,model,cost\n2026-11-26,gpt-5,"1,234"\n', "1234"),
        (b'date,model,cost\n2026-11-26,gpt-5,"$1,234.5"\n', "1234.5"),
        (b"date;model;cost\n2026-11-26;gpt-5;1,234.5\n", "1234.5"),
        (b"date;model;cost\n2026-11-26;gpt-5;1,234,567\n", "1234567"),
        (b"date;model;cost\n2026-11-26;gpt-5;0.123\n", "0.123"),
    ],
)
def test_commas_between_thousands_are_taken_where_they_can_be_nothing_else(
    tmp_path: Path, text: bytes, cost: str
) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(text)
    assert [line.cost_usd for line in read_bill(path, provider=None).lines] == [Decimal(cost)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"date;model;cost\n2026-11-26;gpt-5;1,234\n", "line 2: cost may be thousands"),
        (b"date\tmodel\tcost\n2026-11-26\tgpt-5\t0,123\n", "line 2: cost may be thousands"),
        (b'date,model,cost\n2026-11-26,gpt-5,"0,123"\n', "line 2: cost is no number"),
    ],
)
def test_commas_that_may_stand_before_a_fraction_are_refused(
    tmp_path: Path, text: bytes, why: str
) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(text)
    with pytest.raises(InvalidBill, match=why):
        read_bill(path, provider=None)
