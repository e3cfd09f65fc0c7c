"""OpenAI's conversations, as the double keeps them: items one by one, a lock, and no forks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from tests.doubles.vendor_double import Refused

AT_ONCE = 20  #: items that can be added in one request
_PREFIXES: Mapping[str, str] = {
    "function_call": "fc",
    "function_call_output": "fco",
    "message": "msg",
    "reasoning": "rs",
}
#: Of an item of its own making: what the vendor shows of it.
_SHOWN = {"status": "completed"}


def not_found(what: str, name: str) -> Refused:
    """Return what the vendor says where there is none."""
    return Refused(404, "", f"{what} with id '{name}' not found.")


class Conversations:
    """All conversations of one account. Items outlive the conversation that they were in."""

    def __init__(self) -> None:
        self._items: dict[str, list[dict[str, Any]]] = {}
        self._metadata: dict[str, dict[str, str]] = {}
        self._locked: set[str] = set()
        self._numbers = count(1)
        #: items of conversations that were deleted before them: nobody can find these any more
        self.orphans: list[dict[str, Any]] = []
        self.are_unavailable = False  #: none can be begun, or used

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __contains__(self, ref: object) -> bool:
        return ref in self._items

    def __len__(self) -> int:
        return len(self._items)

    def items_of(self, ref: str) -> Sequence[dict[str, Any]]:
        """Return its items, oldest first."""
        return self._items[ref]

    def metadata_of(self, ref: str) -> Mapping[str, str]:
        """Return what whoever began it has said of it."""
        return self._metadata[ref]

    def begin(self, items: Iterable[dict[str, Any]] = (), *, metadata: Any = None) -> str:
        """Begin one, and return its id."""
        self._refuse_while_unavailable()
        given = list(items)
        _check_many(given)
        _check_metadata(metadata or {})
        ref = f"conv_{next(self._numbers):08}"
        self._items[ref] = []
        self._metadata[ref] = dict(metadata or {})
        self.add(ref, given)
        return ref

    def shown(self, ref: str) -> dict[str, Any]:
        """Return the object that stands for it."""
        self._find(ref)
        return {
            "id": ref,
            "object": "conversation",
            "created_at": 1_790_000_000,
            "metadata": self._metadata[ref],
        }

    def used_by(self, body: Mapping[str, Any]) -> str:
        """Return the conversation that a response is to be one of, or ""; raises Refused."""
        given = body.get("conversation")
        if given is None:
            return ""
        ref = given.get("id") if isinstance(given, dict) else given
        if body.get("previous_response_id") is not None:
            wrong = "Mutually exclusive parameters: 'conversation' and 'previous_response_id'."
            raise Refused(400, "mutually_exclusive_parameters", wrong, param="conversation")
        if not isinstance(ref, str) or not ref.startswith("conv_"):
            wrong = f"Invalid 'conversation': '{ref}'. Expected an ID that begins with 'conv'."
            raise Refused(400, "invalid_value", wrong, param="conversation")
        self._refuse_while_unavailable()
        self._find(ref)
        self._refuse_locked(ref)
        return ref

    def add(self, ref: str, items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add items at its end; each gets an id of its own."""
        added = [self._named(one) for one in items]
        self._items[ref] += added
        return added

    def added(self, ref: str, items: Any) -> list[dict[str, Any]]:
        """Add items that somebody sends; raises Refused."""
        self._find(ref)
        self._refuse_locked(ref)
        if not isinstance(items, list) or not items:
            raise Refused(400, "missing_required_parameter", "Missing required parameter: 'items'.")
        _check_many(items)
        return self.add(ref, items)

    def page(self, ref: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of its items."""
        return page_of(self._find(ref), query)

    def item(self, ref: str, item: str) -> dict[str, Any]:
        """Return one of its items."""
        for one in self._find(ref):
            if one["id"] == item:
                return one
        raise not_found("Item", item)

    def delete_item(self, ref: str, item: str) -> None:
        """Delete one of its items."""
        found = self.item(ref, item)
        self._refuse_locked(ref)
        self._items[ref].remove(found)

    def delete(self, ref: str) -> None:
        """Delete it; its items stay, out of reach."""
        self.orphans += self._find(ref)
        self._refuse_locked(ref)
        self.lose(ref)

    def lose(self, *refs: str) -> None:
        """Lose these, or all: as another program deletes them."""
        for ref in refs or list(self._items):
            del self._items[ref], self._metadata[ref]

    def lock(self, ref: str) -> None:
        """Let something be at it until `unlock`."""
        self._locked.add(ref)

    def unlock(self, ref: str) -> None:
        """Let others be at it again."""
        self._locked.discard(ref)

    def _find(self, ref: str) -> list[dict[str, Any]]:
        if ref not in self._items:
            raise not_found("Conversation", ref)
        return self._items[ref]

    def _refuse_locked(self, ref: str) -> None:
        if ref in self._locked:
            wrong = "Another process is currently operating on this conversation. Please retry."
            raise Refused(409, "conversation_locked", wrong, param="conversation")

    def _refuse_while_unavailable(self) -> None:
        if self.are_unavailable:
            raise Refused(500, "server_error", "The server had an error.")

    def _named(self, item: Mapping[str, Any]) -> dict[str, Any]:
        kind = item.get("type", "message")
        named = {"id": f"{_PREFIXES.get(kind, 'item')}_{next(self._numbers):08}", **_SHOWN, **item}
        if kind == "message":
            return {**named, "type": "message", "content": _blocks(item)}
        return named


def page_of(items: Sequence[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of a list: the vendor's default is the newest first, 20 of them."""
    limit, order = int(query.get("limit", "20")), query.get("order", "desc")
    if not 1 <= limit <= 100:
        raise Refused(400, "integer_above_max_value", "Invalid 'limit'.", param="limit")
    if order not in ("asc", "desc"):
        raise Refused(400, "invalid_value", "Invalid value for 'order'.", param="order")
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after := query.get("after"):
        places = [n for n, one in enumerate(ordered, 1) if one["id"] == after]
        if not places:
            raise Refused(400, "invalid_value", "Invalid 'after'.", param="after")
        ordered = ordered[places[0] :]
    page = ordered[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(ordered) > limit,
    }


def _check_many(items: Sequence[Any]) -> None:
    if len(items) > AT_ONCE:
        wrong = f"Invalid 'items': array too long. Expected at most {AT_ONCE}."
        raise Refused(400, "array_above_max_length", wrong, param="items")


def _check_metadata(metadata: Any) -> None:
    sound = isinstance(metadata, dict) and len(metadata) <= 16
    if not sound or not all(
        isinstance(value, str) and len(key) <= 64 and len(value) <= 512
        for key, value in metadata.items()
    ):
        raise Refused(400, "invalid_value", "Invalid 'metadata'.", param="metadata")


def _blocks(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = item.get("content")
    if isinstance(content, list):
        return content
    kind = "output_text" if item.get("role") == "assistant" else "input_text"
    return [{"type": kind, "text": content}]
