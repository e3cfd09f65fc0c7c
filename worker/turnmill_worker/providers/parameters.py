"""What a session's settings mean to a vendor: ours are taken out, the others are its own."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from turnmill.domain.bounds import VOICE_SETTINGS
from turnmill.domain.errors import Rejected, ThreadLost
from turnmill_worker.providers.port import Request

#: Settings that speak to Turnmill. Every other one is a parameter of the vendor's API.
OURS = VOICE_SETTINGS | frozenset(
    {
        "api",
        "fallback",
        "layers",
        "max_tool_rounds",
        "mock",
        "names",
        "on_context_full",
        "pictures",
        "prompt_cache",
        "response_format",
        "thread",
        "timeout",
        "tools",
        "uploads",
    }
)

#: The model would call tools that nobody here runs, and a call without its output bricks a thread.
TOOLS = frozenset({"function_call", "functions", "max_tool_calls", "mcp_servers"})

#: The code of a thread that another provider keeps, or another way of this one's.
KEPT_ELSEWHERE = "thread_kept_elsewhere"

_TIMEOUT_MAX = timedelta(hours=24)


def vendor_parameters(settings: Mapping[str, Any], *, reserved: frozenset[str]) -> dict[str, Any]:
    """Return the settings to send along, or raise Rejected when one would break a promise.

    `reserved` are the vendor's parameters that Turnmill itself decides: another message list, a
    second reply or a stream would not be what was accepted and is stored.
    """
    refused = reserved.intersection(settings)
    if refused:
        raise setting_refused(min(refused), "Turnmill decides it")
    return {name: value for name, value in settings.items() if name not in OURS}


def choice(settings: Mapping[str, Any], name: str, *, among: tuple[str, ...]) -> str:
    """Return one setting of ours; the first of `among` where it is not given."""
    value = settings.get(name) or among[0]
    if value not in among:
        raise setting_refused(name, "it must be " + " or ".join(among))
    return str(value)


def prompt_cache_of(settings: Mapping[str, Any]) -> str:
    """Return whether the vendor is to keep what comes again: on, off, or 1h (for an hour)."""
    return choice(settings, "prompt_cache", among=("on", "off", "1h"))


def timeout_of(settings: Mapping[str, Any], *, default: timedelta) -> timedelta:
    """Return how long one call may take: the setting `timeout`, in seconds."""
    value = settings.get("timeout")
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise setting_refused("timeout", "it must be a number of seconds above 0")
    return timedelta(seconds=min(value, _TIMEOUT_MAX.total_seconds()))


def refuse_thread(request: Request) -> None:
    """Raise ThreadLost when the session's thread is kept where this call will not look.

    The session was moved to another provider, or to a history of our own: its messages are not in
    the request, and an answer without them would be wrong.
    """
    if request.thread_ref:
        raise ThreadLost(KEPT_ELSEWHERE)


def refuse_prompt(settings: Mapping[str, Any], who: str) -> None:
    """Raise Rejected where a prompt is named that OpenAI keeps, and `who` is asked."""
    if settings.get("prompt") is not None:
        raise setting_refused("prompt", f"{who} no prompts: OpenAI's responses do")


def setting_refused(name: str, reason: str) -> Rejected:
    """Return the error for a setting of a session that cannot be used."""
    return Rejected(
        "setting_refused",
        detail=f"setting {name!r}: {reason}",
        hint="`turnmill sessions show` shows a session's settings; update or leave out this one",
    )
