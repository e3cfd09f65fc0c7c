"""An amount is read as it was written, on each store, and every column of money sees to that."""

from decimal import Decimal

import pytest
from sqlalchemy import Numeric, func, select, text, update

from tests.budgeting import bound, budget
from turnmill.store.database import Database
from turnmill.store.dollars import Dollars
from turnmill.store.schema.alert_tables import metadata  # whole with these
from turnmill.store.schema.budget_tables import budgets

#: Each of 15 digits at the most.
AMOUNTS = (
    *("0.0000000001", "0.1", "2.675", "1234.56", "99999.9999999999", "524288.1"),
    *("999999.000000001", "1234567.1234567", "12345678.91", "99999999.99", "999999999.999999"),
)


@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_is_read_as_it_was_written_with_ten_digits(store: Database, amount: str) -> None:
    bound(store, amount)
    assert f"{budget(store).limit_usd:f}" == f"{Decimal(amount):.10f}"


def test_sums_of_amounts_have_no_digits_of_their_own(store: Database) -> None:
    bound(store, "12345678.91")
    half = update(budgets).values(spent_usd=budgets.c.limit_usd - Decimal("0.01"))
    with store.begin() as conn:
        conn.execute(half)
        total = func.coalesce(func.sum(budgets.c.limit_usd), 0)
        assert conn.scalar(select(total)) == Decimal("12345678.91")
    assert (budget(store).spent_usd, budget(store).left_usd) == (
        Decimal("12345678.90"),
        Decimal("0.01"),
    )


def test_what_files_of_before_hold_is_read_as_it_was_written(store: Database) -> None:
    bound(store, "1")
    schema = "turnmill." if store.engine.dialect.name == "postgresql" else ""
    for written, read in (("99999999.99", "99999999.9900000000"), ("500", "500.0000000000")):
        with store.begin() as conn:
            conn.execute(text(f"UPDATE {schema}budgets SET limit_usd = {written}"))
        assert str(budget(store).limit_usd) == read


def test_every_column_of_money_is_read_so() -> None:
    columns = [column for table in metadata.sorted_tables for column in table.columns]
    of_money = {one for one in columns if one.name.endswith("_usd")}
    assert of_money == {one for one in columns if isinstance(one.type, Numeric)}
    assert {type(one.type) for one in of_money} == {Dollars}
