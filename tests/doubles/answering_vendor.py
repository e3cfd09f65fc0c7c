"""A stand-in for OpenAI that gives answers of people's, and counts as its models do, by pieces."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from zlib import crc32

from tests.doubles.openai_server import OpenAIDouble

#: Words and their beginnings, numbers of up to three digits, signs: what byte pairs come to, about.
_PIECE = re.compile(r" ?[^\W\d_]{1,8}|\d{1,3}| ?[^\w\s]{1,2}|_|\s+")
_AROUND_MESSAGE, _AROUND_ALL = 4, 3


class AnsweringVendor(OpenAIDouble):
    """The same question always has the same answer."""

    def __init__(self, answers: Sequence[str]) -> None:
        super().__init__()
        self.says = lambda body: answers[crc32(_last_of(body).encode()) % len(answers)]

    def _response(
        self, body: dict[str, Any], items: tuple[dict[str, Any], ...], *, outcome: str
    ) -> dict[str, Any]:
        said = [*_texts(list(items))]
        told = sum(map(_count, said)) + _AROUND_MESSAGE * len(items) + _AROUND_ALL
        answered = _count(self.says(body))
        usage = {
            "input_tokens": told,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": answered,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": told + answered,
        }
        return {**super()._response(body, items, outcome=outcome), "usage": usage}


def _count(text: str) -> int:
    return len(_PIECE.findall(text))


def _last_of(body: dict[str, Any]) -> str:
    asked = body["input"]
    return asked if isinstance(asked, str) else [*_texts(asked)][-1]


def _texts(items: Sequence[dict[str, Any]]) -> Iterator[str]:
    for item in items:
        content = item.get("content")
        if isinstance(content, str):
            yield content
        else:
            yield from (block["text"] for block in content or () if "text" in block)
