"""Stand-ins that count, and keep prompts, as their vendors do: what they answer is their bill.

A token for each four bytes. What is shorter than 1,024 tokens is not kept.
"""

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from tests.doubles.anthropic_server import AnthropicDouble
from tests.doubles.openai_server import OpenAIDouble
from tests.doubles.vendor_double import Call, Refused

LEAST = 1024
_STEP = 128
_LOOKBACK = 20
_MARKS = 4


def tokens(said: object) -> int:
    """Return how many tokens the vendor makes of it."""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, sort_keys=True)
    return -(-len(text.encode()) // 4)


def _came(events: list[bytes | str] | None, spoken: Callable[[Any], str]) -> int:
    """Return the tokens of what a stream brings until it is cut."""
    whole = [one for one in events or () if isinstance(one, bytes) and one.endswith(b"\n\n")]
    data = [one.decode().partition("data: ")[2].strip() for one in whole]
    return tokens("".join(spoken(json.loads(one)) for one in data if one != "[DONE]"))


class ChargingAnthropic(AnthropicDouble):
    """Keeps what stands before a breakpoint, and finds it again no further than 20 blocks back.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._kept: set[str] = set()
        self.bill = Decimal(0)  #: US dollars for a million

    def events(self, call: Call, payload: dict[str, Any]) -> list[bytes | str] | None:
        events = super().events(call, payload)
        if "usage" not in payload:
            return events  # it counts, and charges nothing for that
        came = _came(events, lambda one: str(one.get("delta", {}).get("text", "")))
        usage = payload["usage"]
        self.bill += (
            usage["input_tokens"] * 3
            + usage["cache_read_input_tokens"] * Decimal("0.3")
            + usage["cache_creation_input_tokens"] * Decimal("3.75")
            + came * 15
        )
        return events

    async def _create(self, call: Call) -> dict[str, Any]:
        payload = await super()._create(call)
        if "content" not in payload:
            return payload  # it counts
        payload["usage"] = self._usage(self.threads.whole or call.body, payload["content"])
        return payload

    def _usage(self, body: dict[str, Any], said: Any) -> dict[str, Any]:
        blocks, marks = _prompt(body)
        if len(marks) > _MARKS:
            raise Refused(400, "invalid_request_error", "A maximum of 4 blocks with cache_control")
        sums = [0]
        names = [hashlib.sha256(b"").hexdigest()]
        for block in blocks:
            sums.append(sums[-1] + tokens(block))
            names.append(hashlib.sha256((names[-1] + block).encode()).hexdigest())
        read = max((self._found(names, sums, mark) for mark in marks), default=0)
        written = max((sums[mark] for mark in marks if sums[mark] >= LEAST), default=0)
        self._kept |= {names[mark] for mark in marks if sums[mark] >= LEAST}
        return {
            "input_tokens": sums[-1] - max(read, written),
            "cache_creation_input_tokens": max(written - read, 0),
            "cache_read_input_tokens": read,
            "output_tokens": tokens("".join(one.get("text", "") for one in said)),
            "service_tier": "standard",
        }

    def _found(self, names: list[str], sums: list[int], mark: int) -> int:
        for place in range(mark, max(mark - _LOOKBACK, 0), -1):
            if names[place] in self._kept:
                return sums[place]
        return 0


def _prompt(body: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Return the blocks of a request in the vendor's order, and after how many marks stand."""
    system, given = body.get("system", []), []
    given += [("tool", one) for one in body.get("tools", [])]
    given += [("system", one) for one in _blocks(system)]
    for message in body["messages"]:
        given += [(message["role"], one) for one in _blocks(message["content"])]
    blocks, marks = [], []
    for role, block in given:
        plain = {name: one for name, one in block.items() if name != "cache_control"}
        blocks.append(json.dumps([role, plain], sort_keys=True))
        if "cache_control" in block:
            marks.append(len(blocks))
    return blocks, marks


def _blocks(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class ChargingOpenAI(OpenAIDouble):
    """Keeps each prompt at the machine that its key leads to, and reads it in steps of 128.

    https://developers.openai.com/api/docs/guides/prompt-caching
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self._prompts: dict[str, list[str]] = {}
        self.bill = Decimal(0)  #: US dollars for a million

    def events(self, call: Call, payload: dict[str, Any]) -> list[bytes | str] | None:
        events = super().events(call, payload)
        if "usage" not in payload:
            return events  # it counts, and charges nothing for that
        usage = payload["usage"]
        if call.path.endswith("completions"):
            told, cached = usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]
            came = _came(events, _of_chunk)
        else:
            told, cached = usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"]
            came = _came(events, _of_event)
        rates = (Decimal("0.25"), Decimal("0.025"), 2)
        self.bill += (told - cached) * rates[0] + cached * rates[1] + came * rates[2]
        return events

    def _response(
        self, body: dict[str, Any], items: tuple[dict[str, Any], ...], *, outcome: str
    ) -> dict[str, Any]:
        payload = super()._response(body, items, outcome=outcome)
        prompt = json.dumps([body.get("tools"), body.get("instructions"), list(items)])[:-2]
        cached = self._read(prompt, key=body.get("prompt_cache_key", ""))
        said = tokens("".join(_said(one) for one in payload["output"]))
        payload["usage"] = {
            "input_tokens": tokens(prompt),
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens(prompt) + said,
        }
        return payload

    async def _complete(self, call: Call) -> dict[str, Any]:
        payload = await super()._complete(call)
        prompt = json.dumps([call.body.get("tools"), call.body["messages"]])[:-2]
        cached = self._read(prompt, key=call.body.get("prompt_cache_key", ""))
        said = tokens(payload["choices"][0]["message"]["content"] or "")
        payload["usage"] = {
            "prompt_tokens": tokens(prompt),
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens": said,
            "total_tokens": tokens(prompt) + said,
        }
        return payload

    def _read(self, prompt: str, *, key: str) -> int:
        """Return what is read of an earlier prompt; without a key it comes to another machine."""
        before = self._prompts.setdefault(key, []) if key else []
        alike = max((_alike(prompt, one) for one in before), default=0)
        if key:
            before.append(prompt)
        cached = alike // 4 // _STEP * _STEP
        return cached if cached >= LEAST else 0


def _of_chunk(chunk: Any) -> str:
    return "".join(one.get("delta", {}).get("content") or "" for one in chunk.get("choices", ()))


def _of_event(event: Any) -> str:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""


def _said(item: dict[str, Any]) -> str:
    return "".join(one.get("text", "") for one in item.get("content", ()))


def _alike(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
