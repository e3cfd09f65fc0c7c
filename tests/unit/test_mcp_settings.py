"""The file of MCP servers: what it says is understood, or refused by name without its values."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from turnmill.domain.errors import InvalidSetting, UnsafeSetting
from turnmill.domain.states import Effects
from turnmill.settings import Profile
from turnmill_worker.tools.mcp.configured import ServerSettings, configured

PAGE = Path(__file__).parents[2] / "docs" / "tools.md"
SECRET = "hunter2-hunter2"


def read(
    tmp_path: Path, said: Any, *, name: str = "mcp.json", profile: Profile = Profile.DEVELOPMENT
) -> dict[str, ServerSettings]:
    file = tmp_path / name
    file.write_text(said if isinstance(said, str) else json.dumps(said))
    environ = {"TOKEN": SECRET, "CRM_TOKEN": SECRET}
    return {one.name: one for one in configured(file, profile=profile, environ=environ)}


def one(**about: Any) -> dict[str, Any]:
    return {"mcpServers": {"one": about}}


def test_the_file_of_the_page_is_understood(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```json\n(\{\n  \"mcpServers.*?)```", PAGE.read_text(), re.DOTALL)
    found = read(tmp_path, shown, profile=Profile.PRODUCTION)
    crm, files = found["crm"], found["files"]
    assert crm.headers == {"Authorization": f"Bearer {SECRET}"}
    assert crm.rules_of("delete_customer").approval
    assert crm.rules_of("delete_customer").effects is Effects.AT_MOST_ONCE
    assert crm.rules_of("any").effects is Effects.IDEMPOTENT
    assert files.only == frozenset({"read_file", "list_files"})
    assert files.longest == files.rules_of("any").timeout == timedelta(seconds=10)
    assert SECRET not in repr(crm)


def test_toml_says_the_same(tmp_path: Path) -> None:
    said = '[mcpServers.one]\ncommand = "x"\nenv = {A = "${TOKEN}"}\n'
    assert read(tmp_path, said, name="mcp.toml")["one"].env == {"A": SECRET}


@pytest.mark.parametrize(
    "said",
    [
        "nonsense",
        [],
        {},
        {"servers": {}},
        {"mcpServers": []},
        {"mcpServers": {"a__b": {"command": "x"}}},
        {"mcpServers": {"": {"command": "x"}}},
        {"mcpServers": {"one": "x"}},
        {"mcpServers": {f"s{n}": {"command": "x"} for n in range(33)}},
        one(),
        one(command="x", url="https://example.com"),
        one(command=""),
        one(command="x", headers={"A": "b"}),
        one(url="https://example.com", env={"A": "b"}),
        one(url="ftp://example.com"),
        one(url="https://["),
        one(command="x", args="y"),
        one(command="x", args=[1]),
        one(command="x", env={"A": 1}),
        one(command="x", timeout=0),
        one(command="x", timeout=True),
        one(command="x", timeout="10"),
        one(command="x", effects="some"),
        one(command="x", approval="yes"),
        one(command="x", only="all"),
        one(command="x", unknown=1),
        one(command="x", tools={"a": {"unknown": 1}}),
        one(command="x", tools={"a": 1}),
        one(command="x", env={"A": "${UNSET}"}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(tmp_path: Path, said: Any) -> None:
    with pytest.raises(InvalidSetting, match="TURNMILL_MCP"):
        read(tmp_path, said)


def test_no_value_of_the_file_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting) as caught:
        read(tmp_path, one(url=f"ftp://{SECRET}", headers={"A": "${TOKEN}"}))
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="FileNotFoundError"):
        configured(tmp_path / "nothing.json", profile=Profile.DEVELOPMENT)


@pytest.mark.parametrize(
    ("url", "is_safe"), [("http://127.0.0.1:1/mcp", True), ("http://a.b", False)]
)
def test_production_refuses_a_server_elsewhere_without_tls(
    tmp_path: Path, url: str, *, is_safe: bool
) -> None:
    if is_safe:
        assert read(tmp_path, one(url=url), profile=Profile.PRODUCTION)
    else:
        with pytest.raises(UnsafeSetting, match="TURNMILL_MCP, server one"):
            read(tmp_path, one(url=url), profile=Profile.PRODUCTION)
