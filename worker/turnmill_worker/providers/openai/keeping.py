"""Where the thread of a request is kept: a chain or a conversation of OpenAI's, or with us."""

from collections.abc import Mapping
from typing import Any

from turnmill_worker.providers.openai import responses
from turnmill_worker.providers.openai.conversations import is_conversation
from turnmill_worker.providers.parameters import choice, refuse_thread
from turnmill_worker.providers.port import Request
from turnmill_worker.providers.untrusted import mapping, name

#: The words of the setting `thread`.
CHAIN, CLIENT, CONVERSATION = "chain", "client", "conversation"


def api_of(request: Request) -> str:
    """Return `responses` or `chat`; raises Rejected."""
    return choice(request.settings, "api", among=("responses", "chat"))


def kind_of(request: Request) -> str:
    """Return who keeps the thread; raises Rejected."""
    return choice(request.settings, "thread", among=(CHAIN, CLIENT, CONVERSATION))


def body_of(request: Request) -> dict[str, Any]:
    """Return the body in the thread that it is of; raises ThreadLost for one kept elsewhere."""
    kind, ref = kind_of(request), request.thread_ref
    if kind == CLIENT or is_conversation(ref) != (kind == CONVERSATION):
        refuse_thread(request)
    if kind != CONVERSATION:
        return responses.body_of(request, chain=kind == CHAIN)
    stored = is_stored(request)
    return responses.body_of(request, chain=False, conversation=ref, store=stored)


def is_stored(request: Request) -> bool:
    """Tell whether the vendor is asked to store the response: in the background it has to."""
    kind = kind_of(request)
    in_conversation = bool(request.thread_ref or request.settings.get("background"))
    return kind == CHAIN or (kind == CONVERSATION and in_conversation)


def kept_as(request: Request, payload: Mapping[str, Any]) -> tuple[bool, str | None]:
    """Return whether the vendor has stored a response, and the conversation that it is one of.

    None: it is of none, but goes on by itself. Work in the background is looked up by its id alone:
    what was looked up says where it belongs.
    """
    kind = kind_of(request)
    if kind != CONVERSATION:
        return kind == CHAIN, None
    thread = name(mapping(payload.get("conversation")).get("id")) or request.thread_ref
    return bool(thread or request.native_ref or request.settings.get("background")), thread
