"""Threads that exist at a vendor and can be gone on with: whose, and how their ids read."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.errors import CannotAdopt
from turnmill.domain.plain import text_of

#: How the ids of a conversation begin: what is said in it changes it.
CONVERSATION = "conv_"
#: The setting of a session, and its word for one that is kept as a conversation.
THREAD, AS_CONVERSATION = "thread", "conversation"

_THREADS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {"openai": re.compile(r"(conv|resp)_[A-Za-z0-9_-]{1,200}")}
)
_OTHERS: Mapping[str, str] = MappingProxyType(
    {
        "thread_": "the Assistants API is gone, and its threads with it",
        "asst_": "an assistant is no thread; prompt= takes a prompt's id (pmpt_…)",
        "pmpt_": "a prompt is no thread; prompt= takes it",
        "msg_": "this is one item of a thread; name its conversation, or the response",
    }
)


def thread_to_adopt(value: object, *, provider: str) -> str:
    """Return the id of a thread that a session can go on with; raises CannotAdopt."""
    known = _THREADS.get(provider)
    if known is None:
        raise CannotAdopt(
            f"provider {provider} keeps no threads that could be adopted",
            hint=f"of {', '.join(_THREADS)} they can; or tell the model what was said before",
        )
    text = text_of(value) or ""
    if known.fullmatch(text):
        return text
    begins = text.partition("_")[0] + "_"
    raise CannotAdopt(
        f"this is no id of a thread of {provider}'s",
        hint=_OTHERS.get(begins, "adopt= takes conv_… or resp_…, as the vendor gave it"),
    )


def settled_in(settings: Mapping[str, Any], adopted: str) -> Mapping[str, Any]:
    """Return the settings of a session that goes on with it: a conversation stays one.

    Unless they say otherwise: then what was said in it is taken along.
    """
    if not adopted.startswith(CONVERSATION) or THREAD in settings or settings.get("api") == "chat":
        return settings
    return {**settings, THREAD: AS_CONVERSATION}
