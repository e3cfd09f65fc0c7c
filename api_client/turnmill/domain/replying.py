"""What a reply tells beside its words: why it ended, whom it cites, what was thought before it.

Vendors say so in items of their own, which are kept as they came: see `content.Native`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from turnmill.domain.content import Native, Part, text_of


class FinishReason(StrEnum):
    """Why a reply ended. A provider of somebody's own may have other words."""

    STOP = "stop"  #: the model has said what it had to say
    LENGTH = "length"  #: cut off: it was as long as it may be
    CONTEXT_FULL = "context_full"  #: cut off: nothing of the model's context was left
    CONTENT_FILTER = "content_filter"  #: cut off by a filter of the vendor's
    REFUSAL = "refusal"  #: the model, or its vendor, does not answer this
    TOOL_CALLS = "tool_calls"  #: it calls tools that nobody here offers
    UNKNOWN = "unknown"  #: the provider said something that is no word


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A source of something in the reply, as its vendor says; what it leaves out is ""."""

    text: str = field(default="", repr=False)  #: of the reply: what is from there
    quote: str = field(default="", repr=False)  #: of the source
    title: str = field(default="", repr=False)
    url: str = field(default="", repr=False)
    file_id: str = field(default="", repr=False)  #: at the vendor


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a model does not answer, as far as its vendor tells."""

    category: str = field(default="", repr=False)  #: the vendor's word for it, such as `cyber`
    explanation: str = field(default="", repr=False)  #: for people to read


def finish_reason_of(word: str | None) -> FinishReason | str:
    """Return the word as one of ours, or as it is where a provider has words of its own."""
    with suppress(ValueError):
        return FinishReason(word or FinishReason.STOP)
    return word or FinishReason.STOP


def citations_in(parts: Sequence[Part]) -> tuple[Citation, ...]:
    """Return what the parts cite, in order."""
    return tuple(one for item in _items(parts) for one in _cited(item, parts))


def reasoning_in(parts: Sequence[Part]) -> str:
    """Return what is told of the reasoning: mostly a summary of it, or "" where nothing is."""
    return "\n\n".join(said for item in _items(parts) for said in _thoughts(item) if said)


def refusal_in(parts: Sequence[Part]) -> Refusal:
    """Return what a reply that is a refusal says of it; often that is all its words."""
    for item in _items(parts):
        if item.get("type") == "refusal":
            return Refusal(
                category=_text(item, "category"),
                explanation=_text(item, "explanation") or text_of(parts),
            )
    return Refusal(explanation=text_of(parts))


def _items(parts: Sequence[Part]) -> Iterator[Mapping[str, Any]]:
    for part in parts:
        if isinstance(part, Native):
            with suppress(ValueError, RecursionError):
                item = json.loads(part.item)
                if isinstance(item, dict):
                    yield item


def _cited(item: Mapping[str, Any], parts: Sequence[Part]) -> Iterator[Citation]:
    match item.get("type"):
        case "text":  # a block of Anthropic's
            for one in _objects(item.get("citations")):
                yield _citation(one, text=_text(item, "text"))
        case "message":  # an item of a response
            for content in _objects(item.get("content")):
                for one in _objects(content.get("annotations")):
                    yield _citation(one, text=_span(_text(content, "text"), one))
        case _:  # fields of a chat completion
            for one in _objects(item.get("annotations")):
                inner = one.get("url_citation")
                inner = inner if isinstance(inner, dict) else one
                yield _citation(inner, text=_span(text_of(parts), inner))


def _citation(one: Mapping[str, Any], *, text: str) -> Citation:
    return Citation(
        text=text,
        quote=_text(one, "cited_text"),
        title=_text(one, "title", "document_title", "filename"),
        url=_text(one, "url", "source"),
        file_id=_text(one, "file_id"),
    )


def _span(said: str, one: Mapping[str, Any]) -> str:
    """Return the part of the words that an annotation is about, where it says so."""
    start, end = one.get("start_index"), one.get("end_index")
    if type(start) is not int or type(end) is not int or not 0 <= start <= end:
        return ""
    return said[start:end]


def _thoughts(item: Mapping[str, Any]) -> Iterator[str]:
    match item.get("type"):
        case "thinking":
            yield _text(item, "thinking")
        case "reasoning":
            told = _objects(item.get("summary")) or _objects(item.get("content"))
            yield from (_text(one, "text") for one in told)
        case _:
            yield _text(item, "reasoning_content")


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(item: Mapping[str, Any], *names: str) -> str:
    return next((one for name in names if isinstance(one := item.get(name), str) and one), "")
