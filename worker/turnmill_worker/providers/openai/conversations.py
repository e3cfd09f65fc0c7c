"""OpenAI's conversations: begun empty, read to their beginning, deleted item by item.

https://developers.openai.com/api/reference/resources/conversations
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from turnmill.domain.adoption import CONVERSATION
from turnmill.domain.content import Message
from turnmill.domain.errors import NotSent, ProviderError, Rejected, ThreadLocked
from turnmill.domain.ids import SessionId
from turnmill_worker.providers.answers import listed_in, payload_of, raise_untrue
from turnmill_worker.providers.failures import raise_error_inside
from turnmill_worker.providers.http import RawAnswer, Vendor, encoded
from turnmill_worker.providers.openai.adopted import EARLIER, messages_of
from turnmill_worker.providers.untrusted import Unreadable, mappings, name

PATH = "conversations"
_RESPONSES = "responses"

#: The code of a thread that is to be adopted, and is not there.
NOT_FOUND = "thread_not_found"

_AT_WORK = frozenset({"in_progress", "queued"})
_PAGE = 100  # the vendor's most
_MOST_PAGES = 1_000  # of items to be deleted
_AT_ONCE = 8
#: Of a thread that is adopted: what is older is left to the vendor.
_MOST_ITEMS = 5_000
_MOST_RESPONSES = 500
_MOST_BYTES = 8_000_000

#: What a refusal means.
Refusal = Callable[[RawAnswer], ProviderError]
Items = list[Mapping[str, Any]]


def is_conversation(ref: str) -> bool:
    """Tell whether this names a conversation, and not a response."""
    return ref.startswith(CONVERSATION)


async def begin(vendor: Vendor, session_id: SessionId, *, refusal: Refusal) -> str:
    """Begin an empty conversation and return its id.

    Nobody can list conversations: should nobody write down the id of this one, its metadata says at
    the vendor whose it was, and it holds no content.
    """
    body = encoded({"metadata": {"turnmill_session": str(session_id)}})
    payload = _taken(await vendor.call("POST", PATH, body), refusal)
    raise_error_inside(payload)
    ref = name(payload.get("id"))
    if not is_conversation(ref):
        raise Rejected("unreadable_reply", detail="a conversation without an id")
    return ref


async def delete(vendor: Vendor, ref: str, *, refusal: Refusal) -> None:
    """Delete all items of the conversation, one by one, and then itself.

    Items outlive their conversation, and nobody finds them then. Gone already is success. What
    fails is raised, and what was deleted until then is: it is called again.
    """
    seen: frozenset[str] = frozenset()
    for _ in range(_MOST_PAGES):
        answer = await vendor.call("GET", _items_of(PATH, ref, "items"))
        if answer.status == 404:
            break
        found = frozenset(name(one.get("id")) for one in _data(_taken(answer, refusal))) - {""}
        if not found:
            break
        if found <= seen:
            raise NotSent("items_not_deleted")
        await _delete_all(vendor, ref, sorted(found), refusal=refusal)
        seen = found
    _gone(await vendor.call("DELETE", f"{PATH}/{_quoted(ref)}"), refusal)


async def _delete_all(vendor: Vendor, ref: str, ids: Sequence[str], *, refusal: Refusal) -> None:
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(item: str) -> RawAnswer:
        async with room:
            return await vendor.call("DELETE", f"{PATH}/{_quoted(ref)}/items/{_quoted(item)}")

    for answer in await asyncio.gather(*map(one, ids)):
        _gone(answer, refusal)


async def read(vendor: Vendor, ref: str, *, refusal: Refusal) -> list[Message]:
    """Return what was said in a conversation, or up to a response, oldest first.

    Raises Rejected, `thread_not_found`, where there is none, and ThreadLocked while the response is
    still at work.
    """
    reading = _Reading(vendor, refusal)
    if is_conversation(ref):
        whole = await reading.page_through(PATH, ref, "items")
    else:
        whole = await reading.walk_back(ref)
    said = messages_of(reversed(reading.items))
    return said if whole else [EARLIER, *said]


class _Reading:
    """Items of a thread, the newest first, within bounds."""

    def __init__(self, vendor: Vendor, refusal: Refusal) -> None:
        self.items: Items = []
        self._vendor = vendor
        self._refusal = refusal
        self._bytes = 0
        self._seen: set[str] = set()

    async def page_through(self, path: str, ref: str, kind: str) -> bool:
        """Take the items of a conversation, or the input of a response; False: not all of them."""
        after = ""
        while not self._is_full:
            page = await self._get(_items_of(path, ref, kind, after=after))
            found = _data(page)
            for one in found:
                self._take(one)
            after = name(page.get("last_id")) or (name(found[-1].get("id")) if found else "")
            if not page.get("has_more") or not after:
                return True
        return False

    async def walk_back(self, ref: str) -> bool:
        """Take what a response says and was asked, and so on to the first; False: not all of it.

        Its input may hold what was said before, or not: each item is taken once.
        """
        for n in range(_MOST_RESPONSES):
            try:
                response = await self._get(f"{_RESPONSES}/{_quoted(ref)}")
            except Rejected as error:
                if n == 0 or error.error_code != NOT_FOUND:
                    raise
                return False  # the vendor has forgotten what was before
            if name(response.get("status")) in _AT_WORK:
                raise ThreadLocked("thread_in_progress")  # what it will say is not there yet
            taken = len(self.items)
            for one in reversed(mappings(response.get("output"))):
                self._take(one)
            whole = await self.page_through(_RESPONSES, ref, "input_items")
            ref = name(response.get("previous_response_id"))
            if not ref or not whole or len(self.items) == taken:
                return whole
        return False

    @property
    def _is_full(self) -> bool:
        return len(self.items) >= _MOST_ITEMS or self._bytes >= _MOST_BYTES

    def _take(self, item: Mapping[str, Any]) -> None:
        given = name(item.get("id"))
        if given and given in self._seen:
            return
        self._seen.add(given)
        self.items.append(item)

    async def _get(self, path: str) -> Mapping[str, Any]:
        answer = await self._vendor.call("GET", path)
        if answer.status in (400, 404):
            error = self._refusal(answer)
            raise Rejected(
                NOT_FOUND,
                detail=error.detail,
                request_id=error.request_id,
                answered=True,
                hint="the key's project has no such thread: create a session with another adopt=",
            )
        self._bytes += len(answer.body)
        return _taken(answer, self._refusal)


def _taken(answer: RawAnswer, refusal: Refusal) -> Mapping[str, Any]:
    """Return the object that was answered; raises what a refusal means."""
    if not answer.accepted:
        raise refusal(answer)
    payload = payload_of(answer)
    if payload is None:
        raise Rejected("unreadable_reply")
    return payload


def _gone(answer: RawAnswer, refusal: Refusal) -> None:
    if answer.accepted:
        raise_untrue(answer)
    elif answer.status != 404:
        raise refusal(answer)


def _data(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    try:
        return listed_in(page)
    except Unreadable:
        error = Rejected("unreadable_reply", detail="a page without a list")
    raise error


def _items_of(path: str, ref: str, kind: str, *, after: str = "") -> str:
    wanted = {"limit": str(_PAGE), "order": "desc", **({"after": after} if after else {})}
    return f"{path}/{_quoted(ref)}/{kind}?{urlencode(wanted)}"


def _quoted(ref: str) -> str:
    return quote(ref, safe="")
