"""Which store it is, is asked in one place; everything else asks what the store can do."""

import ast
from datetime import timedelta
from pathlib import Path

import pytest

import turnmill
import turnmill_worker
from turnmill.domain.errors import UnsupportedByStore
from turnmill.domain.states import Lane
from turnmill.store import lite, postgres
from turnmill.store.database import Database
from turnmill.store.engine import engine_of
from turnmill.store.line.backlogs import longest_waits
from turnmill.store.line.claim import due_suspicions
from turnmill.store.line.due import count_due, note_announced
from turnmill.store.line.leases import late_heartbeats

ROOTS = [Path(str(package.__file__)).parent for package in (turnmill, turnmill_worker)]
#: Where a store is opened, its engine and types are chosen, and its tables are made.
MAY_ASK = (
    "engine.py",
    "capabilities.py",
    "database.py",
    "types.py",
    "postgres/",
    "lite/",
    "schema/",
)
NAMES = {"postgresql", "sqlite"}
ATTRIBUTES = {"is_postgres", "in_memory"}


def asks(node: ast.AST) -> bool:
    """Tell whether this is a question for the kind of store, rather than for what it can do."""
    match node:
        case ast.Call(func=ast.Attribute(attr="startswith"), args=[begins, *_]):
            return is_kind(begins)
        case ast.Compare(left=left, comparators=others):
            return any(is_kind(one) for one in (left, *others))
        case ast.Subscript(slice=ast.Attribute(attr="name", value=ast.Attribute(attr="dialect"))):
            return True
        case ast.Attribute(attr=attribute):
            return attribute in ATTRIBUTES
        case _:
            return False


def is_kind(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=str(word)):
            return word in NAMES
        case ast.Set(elts=words) | ast.Tuple(elts=words) | ast.List(elts=words):
            return any(is_kind(word) for word in words)
        case ast.Attribute(attr="name", value=ast.Attribute(attr="dialect")):
            return True
        case _:
            return False


def questions(source: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(source)) if asks(node)]  # type: ignore[attr-defined]


def test_nobody_but_the_engine_asks_which_store_it_is() -> None:
    found = [
        f"{path}:{line}"
        for root in ROOTS
        for path in root.rglob("*.py")
        if not str(path.relative_to(root)).startswith(tuple(f"store/{one}" for one in MAY_ASK))
        for line in questions(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "asking",
    [
        'conn.dialect.name == "postgresql"',
        'name in {"sqlite", "mysql"}',
        "OF[conn.dialect.name]",
        "if database.is_postgres: pass",
        'url.startswith("sqlite")',
        "conn.dialect.name != other",
    ],
)
def test_such_a_question_would_be_noticed(asking: str) -> None:
    assert questions(asking) == [1]


def test_both_engines_make_the_same_moves() -> None:
    assert sorted(postgres.__all__) == sorted(lite.__all__)


@pytest.mark.parametrize(
    "asks_others",
    [
        pytest.param(lambda conn: count_due(conn, Lane.BULK, providers=[], limit=1), id="count"),
        pytest.param(lambda conn: note_announced(conn, []), id="announce"),
        pytest.param(due_suspicions, id="suspects"),
        pytest.param(longest_waits, id="waits"),
        pytest.param(lambda conn: late_heartbeats(conn, lease=timedelta(1)), id="doubt"),
    ],
)
def test_what_needs_a_shared_store_is_refused_elsewhere(asks_others: object) -> None:
    database = Database("sqlite://")
    try:
        with database.begin() as conn, pytest.raises(UnsupportedByStore) as refused:
            asks_others(conn)  # type: ignore[operator]
        assert "shared" in str(refused.value)
        assert refused.value.hint
        with database.begin() as conn:
            assert engine_of(conn) is lite
    finally:
        database.close()
