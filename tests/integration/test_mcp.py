"""Tools of MCP servers, over both transports: a real server, made with the SDK of the protocol."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import mcp
import pytest

from tests import world
from tests.acceptance.terminal import Terminal
from turnmill import Client, ToolOutput, Turn, TurnFailed
from turnmill.domain.states import ToolCallState
from turnmill.settings import Settings
from turnmill.testing import script
from turnmill_worker.stack.process import wait_until
from turnmill_worker.tools.mcp import connection, servers

ROOT = Path(__file__).parents[2]
PROGRAM = ["-m", "tests.doubles.mcp_server"]
SOON = timedelta(seconds=20)
ONCE = {"effects": "none", "timeout": 20}


@dataclass
class Place:
    """A server somewhere, the file that names it, and an application that runs its turns."""

    kind: str
    folder: Path
    world: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    clients: list[Client] = field(default_factory=list)

    @property
    def about(self) -> dict[str, Any]:
        """How the server is reached."""
        if self.kind == "http":
            return {"url": f"http://127.0.0.1:{self.port}/mcp"}
        env = {"PYTHONPATH": str(ROOT), world.VARIABLE: str(self.world)}
        return {"command": sys.executable, "args": PROGRAM, "cwd": str(ROOT), "env": env}

    def serve(self) -> None:
        """Start the server, where it is one that is not started by workers."""
        if self.kind == "http":
            self.process = subprocess.Popen(
                [sys.executable, *PROGRAM, str(self.port)],
                cwd=ROOT,
                env=os.environ | {world.VARIABLE: str(self.world)},
                stderr=subprocess.DEVNULL,
            )
            assert wait_until(self._listens, timeout=SOON)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def file(self, **rules: Any) -> Path:
        file = self.folder / "mcp.json"
        file.write_text(json.dumps({"mcpServers": {"double": self.about | ONCE | rules}}))
        return file

    def client(self, **rules: Any) -> Client:
        settings = Settings(
            database_url="sqlite://", grace=timedelta(seconds=1), mcp=self.file(**rules)
        )
        self.clients.append(Client(settings=settings))
        return self.clients[-1]

    def _listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(params=["http", "stdio"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        found = Place(request.param, tmp_path, tmp_path / "world", port=one.getsockname()[1])
    yield found
    for client in found.clients:
        client.close()
    found.stop()


def send(client: Client, *calls: tuple[str, Any], tools: Any = None, **rounds: Any) -> Turn:
    """Let the model make these calls of the server's tools, all at once."""
    named = [(f"double__{tool}", arguments) for tool, arguments in calls]
    chosen = tools or sorted({name for name, _ in named})
    session = client.sessions.create(user_id="ada", provider="mock", tools=chosen)
    return client.send(session, "go", metadata=script(calls=named, **rounds))


def outputs(turn: Turn) -> list[ToolOutput]:
    turn.result(timeout=30)
    parts = [part for message in turn.messages() for part in message.parts]
    return [part for part in parts if isinstance(part, ToolOutput)]


def texts(turn: Turn) -> list[str]:
    return [one.output for one in outputs(turn)]


def test_a_model_calls_tools_of_a_server_as_any_other(place: Place) -> None:
    place.serve()
    turn = send(
        place.client(),
        ("add", {"a": 20, "b": 1}),
        ("add", {"a": 1}),
        ("show", {}),
        ("decline", {}),
        ("add", {"a": "many"}),
        ("add", "{nonsense"),
    )
    told = outputs(turn)
    assert [one.output for one in told[:2]] == ["21", "2"]
    assert told[2].output == "see:\n[image of type image/png, which cannot be shown]"
    assert "the card was declined" in told[3].output
    assert "a" in told[4].output
    assert [one.is_error for one in told] == [False, False, False, True, True, True]


@pytest.mark.long
def test_each_tool_is_offered_with_its_servers_words_and_schema(place: Place) -> None:
    place.serve()
    listed = Terminal(place.folder, {"TURNMILL_MCP": str(place.file())}).run(
        "tools", "registered", "--json"
    )
    found = {one["name"]: one for one in map(json.loads, listed.out.splitlines())}
    assert found["double__add"]["server"] == "double"
    assert found["double__add"]["description"] == "Add two numbers."
    assert found["double__add"]["effects"] == "none"
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in found)
    (again,) = (name for name in found if name.startswith("double__say"))
    session = {"tools": [again], "calls": [(again, {"text": "hello"})]}
    client = place.client()
    chat = client.sessions.create(user_id="ada", provider="mock", tools=session["tools"])
    turn = client.send(chat, "go", metadata=script(calls=[(again, {"text": "hello"})]))
    assert texts(turn) == ["hello"]


def test_a_server_that_is_down_fails_no_turn_and_is_found_when_it_is_there(place: Place) -> None:
    if place.kind == "stdio":
        client = place.client(command="/no/such/program")
        assert "cannot be reached" in texts(send(client, ("add", {"a": 1})))[0]
        return
    client = place.client()
    turn = send(client, ("add", {"a": 1}))
    (told,) = outputs(turn)
    assert told.is_error and "cannot be reached" in told.output
    assert turn.tool_calls()[0].error_code == "mcp_unreachable"
    place.serve()
    assert wait_until(lambda: texts(send(client, ("add", {"a": 1}))) == ["2"], timeout=SOON)
    place.stop()
    assert "cannot be reached" in texts(send(client, ("add", {"a": 1})))[0]


@pytest.mark.long
def test_a_call_notices_nothing_of_a_server_that_was_started_anew(place: Place) -> None:
    place.serve()
    client = place.client()
    assert texts(send(client, ("add", {"a": 1}))) == ["2"]
    if place.kind == "http":
        place.stop()
        place.serve()
    else:
        (pid,) = texts(send(client, ("who", {})))
        os.kill(int(pid), signal.SIGKILL)
        assert wait_until(lambda: not _lives(int(pid)), timeout=SOON)
        time.sleep(0.2)  # what it has not said any more is not known at once
    assert texts(send(client, ("add", {"a": 2}))) == ["3"]


def test_what_ends_in_the_middle_of_a_call_may_have_happened_and_is_not_run_again(
    place: Place,
) -> None:
    place.serve()
    client = place.client(effects="at_most_once")
    turn = send(client, ("crash", {}))
    (told,) = outputs(turn)
    assert told.is_error and "may have had its effect" in told.output
    assert [one["done"] for one in world.of(place.world)] == ["crash"]
    assert [one.state for one in turn.effects()] == [ToolCallState.FAILED]
    place.stop()
    place.serve()
    assert wait_until(lambda: texts(send(client, ("add", {"a": 1}))) == ["2"], timeout=SOON)


@pytest.mark.long
def test_time_and_size_of_a_call_are_bounded(place: Place) -> None:
    place.serve()
    client = place.client(tools={"dawdle": {"timeout": 0.3}})
    began = time.monotonic()
    turn = send(
        client, ("dawdle", {}), ("shout", {"length": 1_000_001}), ("shout", {"length": 900_000})
    )
    late, long, fits = texts(turn)
    assert "longer than 0.3 seconds" in late
    assert "longer than 1000000 bytes" in long
    assert len(fits) == 900_000
    assert time.monotonic() - began < 20
    if place.kind == "http":
        assert "cannot be read" in texts(send(client, ("shout", {"length": 5_000_000})))[0]
    assert texts(send(client, ("add", {"a": 1}))) == ["2"]


@pytest.mark.long
def test_a_server_is_told_the_key_of_a_call_and_keeps_what_it_says_to_itself(place: Place) -> None:
    place.serve()
    turn = send(place.client(), ("note", {}), ("fail", {}))
    assert texts(turn)[0] == "noted"
    (noted,) = world.of(place.world)
    assert noted["meta"] == f"{turn.id}:2"


@pytest.mark.long
def test_what_an_operator_says_of_a_tool_holds(place: Place) -> None:
    place.serve()
    client = place.client(only=["add", "note"], tools={"note": {"approval": True}})
    turn = send(client, ("note", {}))
    assert wait_until(lambda: turn.refresh().state == "waiting", timeout=SOON)
    assert not world.of(place.world)
    turn.approve(turn.tool_calls()[0].call_id)
    assert texts(turn) == ["noted"]
    with pytest.raises(TurnFailed) as failed:
        send(client, ("who", {})).result(timeout=30)
    assert failed.value.error_code == "unknown_tool"


@pytest.mark.long
def test_doctor_names_a_server_that_does_not_answer(place: Place) -> None:
    place.serve()
    there = Terminal(place.folder, {"TURNMILL_MCP": str(place.file())}).run("doctor", "--json")
    assert "MCP server double: 10 tools" in there.out
    gone = place.file(
        **({"url": "http://127.0.0.1:9/mcp"} if place.kind == "http" else {"command": "/no"})
    )
    said = Terminal(place.folder, {"TURNMILL_MCP": str(gone)}).run("doctor", "--json")
    assert "mcp_unreachable" in said.out
    listed = Terminal(place.folder, {"TURNMILL_MCP": str(gone)}).run("tools", "registered")
    assert listed.code == 1 and "double cannot be reached" in listed.err


@pytest.mark.long
@pytest.mark.parametrize("place", ["http"], indirect=True)
def test_a_session_that_its_server_has_forgotten_is_made_anew(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "Client", partial(mcp.Client, mode="legacy"))
    place.serve()
    client = place.client(effects="at_most_once")
    assert texts(send(client, ("add", {"a": 1}))) == ["2"]
    place.stop()
    place.serve()
    assert texts(send(client, ("note", {}))) == ["noted"]
    assert [one["done"] for one in world.of(place.world)] == ["note"]


@pytest.mark.long
def test_a_server_that_never_answers_holds_up_no_turn_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place("stdio", tmp_path, tmp_path / "world")
    client = place.client(args=["-c", "import time; time.sleep(600)"], timeout=0.3)
    began = time.monotonic()
    for patience in (0.3, 600.0):  # who has waited once in vain does not wait again
        monkeypatch.setattr(servers, "_PATIENCE", patience)
        (told,) = outputs(send(client, ("add", {"a": 1})))
        assert told.is_error and "cannot be reached. Nothing was done" in told.output
    client.close()
    assert time.monotonic() - began < 29  # less than it takes until the connection is given up


WORKER = """
import sys, time
from pathlib import Path
from datetime import timedelta
from turnmill import Client, Settings
from turnmill.testing import script
client = Client(settings=Settings(database_url="sqlite://", mcp=Path(sys.argv[1])))
session = client.sessions.create(user_id="ada", provider="mock", tools=["double__who"])
turn = client.send(session, "go", metadata=script(calls=[("double__who", {})], reply="{outputs}"))
print(turn.result(timeout=60).text, flush=True)
if sys.argv[2] == "close":
    client.close()
else:
    time.sleep(600)
"""


@pytest.mark.parametrize(
    ("how", "stubborn"),
    [
        ("kill", False),
        *(
            pytest.param(how, stubborn, marks=pytest.mark.long)
            for how, stubborn in (("close", False), ("close", True), ("kill", True))
        ),
    ],
)
def test_a_program_ends_with_its_worker_however_that_ends(
    tmp_path: Path, how: str, *, stubborn: bool
) -> None:
    place = Place("stdio", tmp_path, tmp_path / "world")
    args = [*PROGRAM, *(["--stubborn"] if stubborn else [])]
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(place.file(args=args)), how],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    pid = int(worker.stdout.readline().rpartition(" ")[2])
    if how == "kill":
        assert _lives(pid)
        worker.kill()
    worker.wait(timeout=20)
    assert wait_until(lambda: not _lives(pid), timeout=SOON)
    worker.stdout.close()


def test_who_configures_no_server_imports_nothing_of_it() -> None:
    program = (
        "import sys; from turnmill.testing import memory_client\n"
        "with memory_client() as client:\n"
        "    session = client.sessions.create(user_id='ada', provider='mock')\n"
        "    client.send(session, 'Hello').result(timeout=30)\n"
        "print([one for one in sys.modules if one.partition('.')[0] in {'mcp', 'mcp_types'}])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"
