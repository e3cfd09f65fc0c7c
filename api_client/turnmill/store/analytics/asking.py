"""Questions about turns that have ended, asked at once: the turns are read once for all of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Float,
    Integer,
    Numeric,
    Select,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from turnmill.store.capabilities import Capability, capabilities_of
from turnmill.store.dollars import Dollars

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """What is asked: numbers and texts, no moments; and what is made of each line of an answer."""

    query: Select[Any]
    read: Callable[[Mapping[str, Any]], T]


def answer(conn: Connection, question: Question[T]) -> list[T]:
    """Return the answer to one question."""
    return [question.read(row._asdict()) for row in conn.execute(question.query)]


def answers(
    conn: Connection, questions: Sequence[Question[Any]], *, at_once: bool
) -> list[list[Any]]:
    """Return the answers, in the order of the questions.

    `at_once`, where the store can, they are one statement: what several of them select from is a
    common table of theirs, which is then made once. Turns of some sessions lie far apart, and to
    fetch them takes longer than to count what they came to. Of very many, each has its own time.
    """
    if not at_once or Capability.LISTS not in capabilities_of(conn):
        return [answer(conn, one) for one in questions]
    found: list[list[Any]] = [[] for _ in questions]
    parts = (_numbered(n, one.query) for n, one in enumerate(questions))
    for n, line in conn.execute(union_all(*parts)):
        one = questions[n]
        found[n].append(one.read(dict(_typed(one.query, line))))
    return found


def _numbered(n: int, query: Select[Any]) -> Select[Any]:
    lines = query.subquery(f"answer_{n}")
    line = func.to_jsonb(lines.table_valued(), type_=JSONB)
    return select(literal(n).label("n"), line.label("line"))


def _typed(query: Select[Any], line: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a line; a float that is whole has come as an integer."""
    for name, column in query.selected_columns.items():
        value = line[name]
        if value is not None:
            value = _READ.get(type(column.type), _as_it_is)(value)
        yield name, value


def _as_it_is(value: Any) -> Any:
    return value


_READ: Mapping[type, Callable[[Any], Any]] = MappingProxyType(
    {Float: float, Integer: int, BigInteger: int}
    | dict.fromkeys((Numeric, Dollars), lambda value: Decimal(str(value)))
)
