"""Message threads: the vendor holds for minutes what was said, so that a turn sends what is new.

A thread is the name of a response, and what came before it. It goes on from there once, with the
system prompt, the tools and the settings that it was begun with, and is gone five minutes after it
was last used, or before. Nothing there has to be deleted, or can be. What is gone is sent again
whole: it stands in our own rows. What is sent costs the same either way.
https://platform.claude.com/docs/en/build-with-claude/message-threads
"""

import hmac
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import ThreadLost
from turnmill_worker.providers.failures import error_object_of
from turnmill_worker.providers.http import RawAnswer
from turnmill_worker.providers.parameters import KEPT_ELSEWHERE, choice, refuse_thread
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import mapping, text

CLIENT, CHAIN = "client", "chain"

BETAS = "anthropic-beta"  #: the header that names which betas a request uses
_BETA = "message-threads-2026-08-12"

#: Of the vendor's five minutes. The clock is that of whoever had the answer.
_HELD_SECONDS = 270
#: With these a message may pause, or the vendor holds no thread.
_WITHOUT = ("container", "context_management", "fallbacks")
#: How a reply ends that goes on as we have it. Another one we hold in other words: a call that was
#: cut is none, and a turn that was refused is not said again.
_GOES_ON = frozenset({"end_turn", "stop_sequence", "tool_use"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")

_UNSUPPORTED = "thread_unsupported_request"
#: The vendor's codes of a thread that cannot be used, and ours. That one has gone on with a call
#: that was cut, or was begun with another set-up, is nothing that anybody has lost.
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        _UNSUPPORTED: KEPT_ELSEWHERE,
        "thread_already_continued": KEPT_ELSEWHERE,
        "thread_continue_in_flight": KEPT_ELSEWHERE,
        "thread_fingerprint_mismatch": KEPT_ELSEWHERE,
        "thread_not_found": "thread_not_found",
    }
)
_MOST_REMEMBERED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Thread:
    """What a call says of its thread."""

    setup: str  #: a digest of what stays the same as long as it goes on
    after: str = ""  #: the message that it goes on from; "": it is begun

    @property
    def field(self) -> dict[str, str]:
        """Return the body's `thread`."""
        if not self.after:
            return {"type": "create"}
        return {"type": "continue", "previous_message_id": self.after}

    def name_of(self, payload: Mapping[str, Any]) -> str:
        """Return what a session goes on from after this message; "" where it does not."""
        message_id = text(payload.get("id"))
        if text(payload.get("stop_reason")) not in _GOES_ON or not _ID.fullmatch(message_id):
            return ""
        return f"{message_id}:{self.setup}:{time.time():.0f}"


class Threads:
    """The threads of one vendor's address: of which requests it holds none, it is remembered."""

    def __init__(self, *, betas: str, key: str) -> None:
        """`betas` are those that every request uses, as its header has them.

        `key` is that of the vendor: what a thread was begun with is told by a hash that nobody can
        make without it, and a thread of one key is none of another's.
        """
        self._key = key.encode()
        self._headers = {BETAS: ",".join(filter(None, (betas, _BETA)))}
        self._without: frozenset[str] = frozenset()

    def of(self, request: Request) -> Thread | None:
        """Return the thread that the session wants the call to be in; None for none.

        Raises ThreadLost where the session has one that cannot go on with this request: what stands
        in it is not there.
        """
        wanted = choice(request.settings, "thread", among=(CLIENT, CHAIN)) == CHAIN
        setup = _setup_of(request, self._key) if wanted and _may_be_held(request.settings) else ""
        if not setup or setup in self._without:
            refuse_thread(request)
            return None
        if not request.thread_ref:
            return Thread(setup=setup)
        if not (after := _goes_on_after(request, setup)):
            raise ThreadLost(KEPT_ELSEWHERE)
        return Thread(setup=setup, after=after)

    def headers_of(self, thread: Thread | None) -> Mapping[str, str] | None:
        """Return the headers that a call has for it."""
        return None if thread is None else self._headers

    def goes_without(self, thread: Thread | None, answer: RawAnswer) -> bool:
        """Tell whether a refusal says that the same is taken without a thread.

        Raises ThreadLost where it says so of a thread: what stands in it is not in the request.
        """
        code = "" if thread is None else _code_in(answer)
        if thread is None or code not in _REFUSED:
            return False
        if code == _UNSUPPORTED and len(self._without) < _MOST_REMEMBERED:
            self._without |= {thread.setup}
        if thread.after:
            raise ThreadLost(_REFUSED[code])
        return True


def _code_in(answer: RawAnswer) -> str:
    details = mapping(error_object_of(answer.body).get("details"))
    return text(details.get("error_code"))


def _goes_on_after(request: Request, setup: str) -> str:
    """Return the message that the session's thread goes on from; "" where it does not."""
    after, _, rest = request.thread_ref.partition(":")
    begun_with, _, last = rest.partition(":")
    if begun_with != setup or not last.isdecimal():
        return ""
    is_held = abs(time.time() - int(last)) <= _HELD_SECONDS
    news = request.messages[request.continues :]
    return after if is_held and not any(one.role == "system" for one in news) else ""


def _may_be_held(settings: Mapping[str, Any]) -> bool:
    return not any(name in settings for name in _WITHOUT)


def _setup_of(request: Request, key: bytes) -> str:
    tools = [[one.name, one.description, dict(one.parameters)] for one in request.tools]
    said = [request.model, request.system_prompt, tools, request.output_schema]
    document = json.dumps([*said, dict(request.settings)], sort_keys=True, default=str)
    return hmac.new(key, document.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:16]
