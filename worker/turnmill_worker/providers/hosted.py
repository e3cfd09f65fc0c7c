"""What OpenAI has run of its own for an answer, and charges by the piece: as its items tell."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from turnmill_worker.providers.untrusted import mapping, mappings, text

#: These search before each answer: https://developers.openai.com/api/docs/guides/tools-web-search
_ALWAYS_SEARCHES = re.compile(r"-search-(api|preview)")


def ran_in(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how often it has searched, painted, and in how many containers it has run code.

    What it has not done is left out. What was kept of an answer is as it was counted then.
    """
    if isinstance(kept := answer.get("ran"), dict):
        return kept
    if answer.get("choices"):
        always = _ALWAYS_SEARCHES.search(text(answer.get("model")))
        return {"searches": 1} if always else {}
    items = mappings(answer.get("output"))
    if all(one.get("type") in ("message", "reasoning", "function_call") for one in items):
        return {}  # nearly always
    kinds = [text(one.get("type")) for one in items]
    found = {
        "searches": sum(map(_is_search, items)),
        "file_searches": kinds.count("file_search_call"),
        "containers": len({one for item in items for one in _containers_of(item)}),
        "pictures": kinds.count("image_generation_call"),
    }
    return {name: n for name, n in found.items() if n}


def _is_search(item: Mapping[str, Any]) -> bool:
    """Tell whether it is a search that is charged; a page that is opened is not."""
    if item.get("type") != "web_search_call":
        return False
    return text(mapping(item.get("action")).get("type")) in ("", "search")


def _containers_of(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the container of the vendor's in which an item has run code, if only without a name."""
    if item.get("type") == "code_interpreter_call":
        yield text(item.get("container_id"))
    elif text(mapping(item.get("environment")).get("type")) == "container_reference":
        yield text(mapping(item.get("environment")).get("container_id"))
