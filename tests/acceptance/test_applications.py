"""The blocks of docs/applications.md, taken from the page and run."""

import ast
import asyncio
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from turnmill import Client
from turnmill_worker.stack.process import wait_until

PAGE = Path(__file__).parents[2] / "docs" / "applications.md"


def block(heading: str) -> str:
    """Return the first block of Python under a heading."""
    section = PAGE.read_text().split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found is not None, heading
    return found[1]


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that runs turns in this very process."""
    url = f"sqlite:///{tmp_path / 'notebook.db'}"
    monkeypatch.setenv("TURNMILL_DATABASE_URL", url)
    return url


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return what imports a block as a module of a name that it may have."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def imported(name: str, text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        made.append(name)
        return importlib.import_module(name)

    yield imported
    for name in made:
        del sys.modules[name]


def test_a_celery_app_of_ones_own(module: Any) -> None:
    app = module("celery_of_the_shop", block("A Celery app of your own")).app
    assert app.conf.task_default_queue == "shop"
    assert {"celery_of_the_shop.invoice", "turnmill.run_turn"} <= set(app.tasks)
    assert app.tasks["celery_of_the_shop.invoice"](7) == "order 7: paid"


def test_a_notebook(store: str) -> None:
    code = compile(
        block("Notebooks").replace("(await turn", "text = (await turn"),
        "cell",
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )
    cells: dict[str, Any] = {}

    async def cell() -> None:
        await eval(code, cells)
        await cells["client"].close()

    asyncio.run(cell())
    assert "You said: Hello" in cells["text"]


@needs("fastapi", "httpx")
def test_fastapi(store: str, module: Any) -> None:
    from fastapi.testclient import TestClient

    app = module("main_of_the_shop", block("FastAPI")).app
    with TestClient(app) as http:
        sent = http.post("/messages", params={"user": "ada", "text": "Hello", "key": "1"})
        assert sent.status_code == 202
        turn = f"/turns/{sent.json()['turn']}"
        ended = wait_until(
            lambda: http.get(turn).json()["state"] == "succeeded", timeout=timedelta(seconds=30)
        )
        assert ended
        assert "You said: Hello" in http.get(turn).json()["text"]
        assert http.get(f"/turns/{'0' * 32}").status_code == 404


@needs("django")
def test_django(store: str, module: Any) -> None:
    from django.conf import settings
    from django.test import RequestFactory

    settings.configure()
    views = module("conversations_of_the_shop", block("Django"))
    sent = RequestFactory().post("/", {"user": "ada", "text": "Hello", "key": "1"})
    assert views.send(sent).status_code == 202
    with Client(database_url=store) as client:
        [turn] = client.turns.list()
        assert turn.result(timeout=30).text
    views.client.close()


def test_what_is_not_installed_here_is_python_all_the_same() -> None:
    for heading in ("FastAPI", "Django"):
        assert ast.parse(block(heading)).body
