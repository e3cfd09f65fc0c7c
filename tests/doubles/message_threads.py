"""Message threads of a stand-in for Anthropic: what it holds, for how long, and what it refuses.

https://platform.claude.com/docs/en/build-with-claude/message-threads
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.doubles.vendor_double import Refused

BETA = "message-threads-2026-08-12"
HELD_SECONDS = 300.0
#: Breakpoints of a request with a thread: the vendor sets the fourth one itself.
MOST_MARKS = 3
#: What stays the same as long as a thread goes on.
_FIXED = ("model", "output_config")
_OF_THE_FIRST = ("system", "tools")


@dataclass(kw_only=True)
class Held:
    """A response, and what came before it."""

    body: Mapping[str, Any]  #: of a request, with all that was said until then
    until: float
    is_continued: bool = False


class MessageThreads:
    """What the vendor holds, by the ids of its responses."""

    def __init__(self) -> None:
        self.held: dict[str, Held] = {}
        self.are_supported = True
        #: the last request, with all that its thread stands for; None: it was in none
        self.whole: dict[str, Any] | None = None

    def forget(self) -> None:
        """Lose all of them, as the vendor may at any moment."""
        self.held.clear()

    def age(self, seconds: float) -> None:
        """Let so much time have passed for all of them."""
        for one in self.held.values():
            one.until -= seconds

    def whole_of(self, body: dict[str, Any], *, betas: str) -> dict[str, Any]:
        """Return the request with all that the thread stands for, or raise Refused."""
        self.whole = None
        if "thread" not in body:
            return body
        if BETA not in betas.split(","):
            raise _refused("thread: Extra inputs are not permitted")
        thread = body["thread"]
        rest = {name: one for name, one in body.items() if name != "thread"}
        if not self.are_supported:
            raise _refused("thread: not supported here", "thread_unsupported_request")
        if json.dumps(rest).count('"cache_control"') > MOST_MARKS:
            raise _refused(f"thread: a maximum of {MOST_MARKS}", "thread_unsupported_request")
        if thread == {"type": "create"}:
            return rest
        if set(thread) != {"type", "previous_message_id"} or thread["type"] != "continue":
            raise _refused("thread: Input should be create or continue")
        return self._continued(thread["previous_message_id"], rest)

    def hold(self, asked: Mapping[str, Any], body: dict[str, Any], reply: dict[str, Any]) -> None:
        """Hold what a request with a thread has come to."""
        thread = asked.get("thread")
        if not thread:
            return
        self.whole = body
        if thread["type"] == "continue":
            self.held[thread["previous_message_id"]].is_continued = True
        said = {"role": "assistant", "content": reply["content"]}
        whole = _without_marks({**body, "messages": [*body["messages"], said]})
        self.held[reply["id"]] = Held(body=whole, until=time.monotonic() + HELD_SECONDS)

    def _continued(self, after: str, rest: Mapping[str, Any]) -> dict[str, Any]:
        held = self.held.get(after)
        if held is None or held.until < time.monotonic():
            raise Refused(404, "not_found_error/thread_not_found", "no usable state was found")
        if held.is_continued:
            raise _refused("has already been continued", "thread_already_continued")
        if given := [name for name in _OF_THE_FIRST if name in rest]:
            raise _refused(f"differing field(s): {given}", "thread_fingerprint_mismatch")
        if differ := [name for name in _FIXED if rest.get(name) != held.body.get(name)]:
            raise _refused(f"differing field(s): {differ}", "thread_fingerprint_mismatch")
        begun = {name: held.body[name] for name in _OF_THE_FIRST if name in held.body}
        return {**rest, **begun, "messages": [*held.body["messages"], *rest["messages"]]}


def _refused(words: str, code: str = "") -> Refused:
    return Refused(400, f"invalid_request_error{'/' if code else ''}{code}", words)


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_marks(one) for k, one in value.items() if k != "cache_control"}
    return [_without_marks(one) for one in value] if isinstance(value, list) else value
