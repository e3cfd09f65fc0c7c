"""The paths of OpenAI's conversations, and what answers them."""

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from openai.types.conversations.conversation_create_params import ConversationCreateParams

from tests.doubles.conversations import Conversations, page_of
from tests.doubles.openai_requests import authorised, object_of
from tests.doubles.vendor_double import Answer, Call, Response

_ROOT = "/v1/conversations"
_PARAMETERS = frozenset(ConversationCreateParams.__annotations__)

Handler = Callable[[web.Request], Awaitable[Response]]


def routes_of(
    conversations: Conversations, through_faults: Callable[[Answer], Handler]
) -> list[web.RouteDef]:
    """Return the routes of these conversations."""

    async def begin(call: Call) -> dict[str, Any]:
        authorised(call)
        body = object_of(call, _PARAMETERS)
        given = body.get("items") or ()
        return conversations.shown(conversations.begin(given, metadata=body.get("metadata")))

    async def show(call: Call) -> dict[str, Any]:
        authorised(call)
        return conversations.shown(_ref(call))

    async def delete(call: Call) -> dict[str, Any]:
        authorised(call)
        conversations.delete(_ref(call))
        return {"id": _ref(call), "object": "conversation.deleted", "deleted": True}

    async def show_items(call: Call) -> dict[str, Any]:
        authorised(call)
        return conversations.page(_ref(call), call.query)

    async def add_items(call: Call) -> dict[str, Any]:
        authorised(call)
        body = object_of(call, frozenset({"items"}))
        added = conversations.added(_ref(call), body.get("items"))
        return page_of(added, {"order": "asc", "limit": "100"})

    async def show_item(call: Call) -> dict[str, Any]:
        authorised(call)
        return conversations.item(_ref(call), _item(call))

    async def delete_item(call: Call) -> dict[str, Any]:
        authorised(call)
        conversations.delete_item(_ref(call), _item(call))
        return conversations.shown(_ref(call))

    one, items = _ROOT + "/{id}", _ROOT + "/{id}/items"
    return [
        web.post(_ROOT, through_faults(begin)),
        web.get(one, through_faults(show)),
        web.delete(one, through_faults(delete)),
        web.get(items, through_faults(show_items)),
        web.post(items, through_faults(add_items)),
        web.get(items + "/{item}", through_faults(show_item)),
        web.delete(items + "/{item}", through_faults(delete_item)),
    ]


def _ref(call: Call) -> str:
    return call.path.split("/")[3]


def _item(call: Call) -> str:
    return call.path.split("/")[5]
