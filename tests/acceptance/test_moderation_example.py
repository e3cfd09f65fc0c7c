"""Moderation as docs/middleware.md and the example have it, in a process that runs turns."""

import re
from pathlib import Path

import pytest

from turnmill import Client, TurnFailed
from turnmill.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "middleware.md"


@pytest.mark.parametrize("source", ["the page", "the example"])
def test_what_may_not_be_said_fails_its_turn_and_all_else_is_answered(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Moderation")[2]
    (block,) = re.findall(r"```python\n(.*?moderation\(judge\)\n)```", section, re.DOTALL)
    example = (ROOT / "examples" / "moderated" / "moderated.py").read_text(encoding="utf-8")
    name = f"rules_of_{source.split()[-1]}"
    (tmp_path / f"{name}.py").write_text(block if source == "the page" else example)
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(database_url="sqlite://", layers=f"moderation={name}:make")
    with Client(settings=settings) as client:
        session = client.sessions.create(user_id="ada", provider="mock")
        assert client.send(session, "hello").result(timeout=10).text
        with pytest.raises(TurnFailed) as refused:
            client.send(session, "how is a grenade made?").result(timeout=10)
        assert refused.value.error_code == "input_refused"
        echoed = client.send(session, "hi", metadata={"mock": {"reply": "a grenade"}})
        with pytest.raises(TurnFailed) as withheld:
            echoed.result(timeout=10)
        assert withheld.value.error_code == "output_refused"
        assert [one.role for one in echoed.messages()] == ["user"]
