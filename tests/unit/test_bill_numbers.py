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
        (b'date,model,cost\n2026-11-26,gpt-5,"-$1,234.5"\n', "-1234.5"),
        (b"date,model,cost\n2026-11-26,gpt-5,-$12.50\n", "-12.5"),
        (b"date,model,cost\n2026-11-26,gpt-5,$-12.50\n", "-12.5"),
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
        (b"date,model,cost\n2026-11-26,gpt-5,12$\n", "line 2: cost is no number"),
        (b"date;model;cost\n2026-11-26;gpt-5;1.234,56\n", "line 2: cost is no number"),
    ],
)
def test_commas_that_may_stand_before_a_fraction_are_refused(
    tmp_path: Path, text: bytes, why: str
) -> None:
    path = tmp_path / "bill.csv"
    path.write_bytes(text)
    with pytest.raises(InvalidBill, match=why):
        read_bill(path, provider=None)


@pytest.mark.parametrize(
    ("tokens", "read"),
    [("12.000", None), ("1.234", None), ("1.234.567", None), ("12.0", 12), ("1234.000", 1234)],
)
def test_points_that_may_stand_between_thousands_of_tokens_are_refused(
    tmp_path: Path, tokens: str, read: int | None
) -> None:
    """Many write twelve thousand so: the bill would be held to twelve."""
    path = tmp_path / "bill.csv"
    path.write_text(f"date;model;input_tokens\n2026-11-26;gpt-5;{tokens}\n")
    if read is not None:
        assert read_bill(path, provider="openai").lines[0].input_tokens == read
        return
    with pytest.raises(InvalidBill, match=r"line 2: input (may be thousands|is no number)"):
        read_bill(path, provider="openai")
