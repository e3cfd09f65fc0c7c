"""What tests share of compiled statements, and what stays each store's own."""

from typing import Any

from sqlalchemy import Dialect, Integer, TypeDecorator, literal, select

from turnmill.store.database import Database


class Told(TypeDecorator[Any]):
    """A number that is read along with the dialect that reads it, as a sealed value is."""

    impl = Integer
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> tuple[Any, Dialect]:
        return (value, dialect)


def asked(store: Database) -> tuple[Any, Any]:
    """Return what a statement was compiled to, and its answer."""
    with store.begin() as conn:
        result = conn.execute(select(literal(7, Told())))
        return result.context.compiled, result.scalar_one()


def test_what_one_store_has_compiled_another_one_has_and_reads_by_its_own_means() -> None:
    one, other = Database("sqlite://"), Database("sqlite://")
    compiled, answer = asked(one)
    again, other_answer = asked(other)
    assert again.string is compiled.string
    assert again.dialect is other.engine.dialect
    assert answer == (7, one.engine.dialect)
    assert other_answer == (7, other.engine.dialect)
    assert asked(other)[0] is again
    one.close()
    other.close()
