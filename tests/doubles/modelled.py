"""Both vendors with a model that says what a test tells it: words, calls of tools, thoughts."""

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from aiohttp import web

from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import Answer, Call, Refused, Response
from tests.validators import published

#: Refusals that are no fault of a body's: a thread that is gone, a window that is small.
_MEANT = ("Previous response with id", "Response with id", "Your input exceeds", "prompt is too")

Handler = Callable[[web.Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One answer of the model's."""

    words: str = ""
    calls: Sequence[tuple[str, str]] = ()  #: names, and arguments as they are
    thinks: bool = False
    one_id: bool = False  #: as some servers do: all calls of an answer have the same id


@dataclass(slots=True)
class Model:
    """What it says next, at whichever vendor; and what vendors have refused to read."""

    answers: deque[Said] = field(default_factory=deque)
    wrong: list[str] = field(default_factory=list)  #: bodies against a vendor's rules
    judged: int = 0  #: bodies that were held to them
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def answer(self, body: Mapping[str, Any]) -> Said:
        """Return what it says to this body: nothing but words where no tool is offered."""
        if not self.answers:
            return Said()
        said = self.answers.popleft()
        choice = body.get("tool_choice")
        is_forbidden = choice == "none" or choice == {"type": "none"}
        return Said(words=said.words) if is_forbidden or not body.get("tools") else said

    def ids(self, said: Said) -> list[str]:
        """Return an id for each call of an answer."""
        first = next(self.numbers)
        return [f"call_{first if said.one_id else next(self.numbers)}" for _ in said.calls]

    def noting(self, answer: Answer) -> Answer:
        """Return the same answer; what the vendor refuses by itself, and no script, is noted.

        So is a body that is none of the types which it publishes.
        """

        async def note(call: Call) -> dict[str, Any]:
            if call.method == "POST":
                self.judged += 1
                self.wrong += published.misfits(call.path, call.body)
            try:
                return await answer(call)
            except Refused as refused:
                if not refused.message.startswith(_MEANT):
                    self.wrong.append(f"{call.path}: {refused.message}")
                raise

        return note


class ModelledOpenAI(OpenAIDouble):
    """OpenAI, with such a model."""

    def __init__(self, model: Model, **given: Any) -> None:
        super().__init__(**given)
        self.model = model

    def through_faults(self, answer: Answer) -> Handler:
        return super().through_faults(self.model.noting(answer))

    def _response(
        self, body: dict[str, Any], items: tuple[dict[str, Any], ...], *, outcome: str
    ) -> dict[str, Any]:
        payload = super()._response(body, items, outcome=outcome)
        said = self.model.answer(body)
        if outcome == "ok" and said != Said():
            payload["output"] = _items(self.model, said, stored=payload["store"])
        return payload

    async def _complete(self, call: Call) -> dict[str, Any]:
        payload = await super()._complete(call)
        said = self.model.answer(call.body)
        if call.fault == "ok" and said != Said():
            choice = payload["choices"][0]
            choice["message"]["content"] = said.words or (None if said.calls else "Well.")
            if said.calls:
                choice["finish_reason"] = "tool_calls"
                choice["message"]["tool_calls"] = [
                    {"id": one, "type": "function", "function": {"name": name, "arguments": told}}
                    for one, (name, told) in zip(self.model.ids(said), said.calls, strict=True)
                ]
        return payload


class ModelledAnthropic(AnthropicDouble):
    """Anthropic, with such a model."""

    def __init__(self, model: Model, **given: Any) -> None:
        super().__init__(**given)
        self.model = model

    def through_faults(self, answer: Answer) -> Handler:
        return super().through_faults(self.model.noting(answer))

    async def _create(self, call: Call) -> dict[str, Any]:
        payload = await super()._create(call)
        said = self.model.answer(call.body)
        if call.fault == "ok" and said != Said():
            payload["content"] = _blocks(self.model, said, thinks="thinking" in call.body)
            payload["stop_reason"] = "tool_use" if said.calls else "end_turn"
        return payload


def _items(model: Model, said: Said, *, stored: bool) -> list[dict[str, Any]]:
    number = next(model.numbers)
    items: list[dict[str, Any]] = []
    if said.thinks:
        secret = {} if stored else {"encrypted_content": "gAAA"}
        items.append({"id": f"rs_{number}", "type": "reasoning", "summary": [], **secret})
    if said.words or not said.calls:
        block = {"type": "output_text", "text": said.words or "Well.", "annotations": []}
        about = {"type": "message", "role": "assistant", "status": "completed"}
        items.append({"id": f"msg_{number}", **about, "content": [{**block, "logprobs": []}]})
    items += [
        {
            "id": f"fc_{next(model.numbers)}",
            "type": "function_call",
            "status": "completed",
            "call_id": one,
            "name": name,
            "arguments": told,
        }
        for one, (name, told) in zip(model.ids(said), said.calls, strict=True)
    ]
    return items


def _blocks(model: Model, said: Said, *, thinks: bool) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thinks and thinks:
        blocks.append({"type": "thinking", "thinking": "Hm.", "signature": "EqQB"})
    if said.words or not said.calls:
        blocks.append({"type": "text", "text": said.words or "Well."})
    blocks += [
        {"type": "tool_use", "id": one, "name": name, "input": _as_object(told)}
        for one, (name, told) in zip(model.ids(said), said.calls, strict=True)
    ]
    return blocks


def _as_object(told: str) -> Any:
    """Return the arguments: this vendor's models never say what is no JSON."""
    try:
        return json.loads(told)
    except ValueError:
        return {}
