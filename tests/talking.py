"""A model that calls tools as it is told, and tools for it: for tests that need no vendor."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests import world
from turnmill.domain.content import KINDS, Kind, Part, Text, ToolCall, ToolOutput
from turnmill_worker.providers.port import Absent, Done, Emit, Request, Running, Unknowable, Usage


def installed(folder: Path) -> str:
    """Return a folder in which a model that calls tools is installed as a provider."""
    info = folder / "talking-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: talking\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[turnmill.providers]\ntalking = tests.talking:Talking\n"
    )
    return str(folder)


class Talking:
    """A provider that makes the calls which a turn's metadata names, step by step, then answers.

    `metadata["calls"]` has one list for each step: of [tool, arguments], arguments being an object
    or the very words; where there is none, the model's name is such a list. The answer says how
    often the model was asked, and all outputs; `metadata["texts"]` has the words of each step
    instead.
    """

    name = "talking"
    accepts: frozenset[Kind] = frozenset(KINDS.values())

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def send(self, request: Request, emit: Emit | None = None) -> Done | Running:
        self.asked.append(request)
        world.note(asked=request.step, turn=request.turn_id, fence=request.fence)
        rounds: Sequence[Sequence[Sequence[Any]]] = request.metadata.get("calls", _told_by(request))
        made = request.step - 1
        texts = request.metadata.get("texts", [])
        parts: list[Part] = [Text(texts[made] if made < len(texts) else _answer(request))]
        if made < len(rounds):
            parts = [_call(request, n, *one) for n, one in enumerate(rounds[made])]
        return Done(
            parts=parts,
            finish_reason="tool_calls" if made < len(rounds) else "stop",
            usage=Usage(input_tokens=10, output_tokens=5),
            model=request.model,
        )

    async def check(self, request: Request) -> Unknowable | Absent:
        return Absent()

    async def close(self, thread_ref: str) -> None:
        """Do nothing: it keeps nothing."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def _told_by(request: Request) -> Sequence[Sequence[Sequence[Any]]]:
    """Return the calls that the model's name stands for: of an example, which has no metadata."""
    return json.loads(request.model) if request.model.startswith("[") else []


def _call(request: Request, n: int, tool: str, arguments: Mapping[str, Any] | str) -> ToolCall:
    words = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return ToolCall(id=f"call_{request.step}_{n}", name=tool, arguments=words)


def _answer(request: Request) -> str:
    parts = [part for message in request.messages for part in message.parts]
    said = [part.output for part in parts if isinstance(part, ToolOutput)]
    return json.dumps({"asked": request.step, "outputs": said})
