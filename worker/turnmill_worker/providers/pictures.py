"""How many tokens a picture is at the most, by its size and the model that looks at it.

OpenAI: https://developers.openai.com/api/docs/guides/images-vision (tiles, or patches);
Anthropic: https://platform.claude.com/docs/en/build-with-claude/vision (an area, or patches).
"""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

from turnmill.domain.content import Attached, Image
from turnmill.domain.counting import Counted
from turnmill_worker.providers.attached import info_of, is_text
from turnmill_worker.providers.port import Request

#: Where a picture's size is not known: as large as any.
_ANY_SIDE = 10_000


class _Tiles(NamedTuple):
    """So many tokens for a picture, and for each 512 pixels squared of it."""

    base: int
    tile: int


class _Patches(NamedTuple):
    """So many tokens for each 32 pixels squared, of which there are at the most so many."""

    factor: float
    most: int = 1536
    whole: int = 0  #: where it is looked at in its original size; 0: the same


#: By the beginning of a model's name; the longest that fits counts.
_OPENAI: Mapping[str, _Tiles | _Patches] = {
    "chatgpt-4o": _Tiles(85, 170),
    "computer-use": _Tiles(65, 129),
    "gpt-4-": _Tiles(85, 170),
    "gpt-4.1": _Tiles(85, 170),
    "gpt-4.1-mini": _Patches(1.62),
    "gpt-4.1-nano": _Patches(2.46),
    "gpt-4.5": _Tiles(85, 170),
    "gpt-4o": _Tiles(85, 170),
    "gpt-4o-mini": _Tiles(2833, 5667),
    "gpt-5": _Tiles(70, 140),
    "gpt-5-mini": _Patches(1.62),
    "gpt-5-nano": _Patches(2.46),
    "gpt-5.2": _Patches(1.2),
    "gpt-5.3": _Patches(1.2),
    "gpt-5.4": _Patches(1.2, 2500, 10_000),
    "gpt-5.4-mini": _Patches(1.62),
    "gpt-5.4-nano": _Patches(2.46),
    "gpt-5.5": _Patches(1.2, 2500, 10_000),
    "gpt-5.6": _Patches(1.2, 2500, 10_000),
    "o1": _Tiles(75, 150),
    "o3": _Tiles(75, 150),
    "o4-mini": _Patches(1.72),
}
#: Of a model that nobody here knows.
_UNKNOWN = _Patches(2.46, 2500, 10_000)
_LOW_SIDE = 512
_PATCH, _TILE = 32, 512
_TILED_LONG, _TILED_SHORT = 2048, 768

#: The newest models of Anthropic's look at no more than this of a picture.
_ANTHROPIC_MOST, _ANTHROPIC_SIDE = 5_000, 2576
_AREA, _SQUARE = 750, 28


def counted_by_openai(request: Request) -> Counted:
    """Return what counts the pictures of a request as OpenAI does."""

    def counted(part: Attached) -> int | None:
        if not isinstance(part, Image):
            return _words_in(part)
        return tokens_of_openai(request.model, *_size_of(request, part), part.detail)

    return counted


def counted_by_anthropic(request: Request) -> Counted:
    """Return what counts the pictures of a request as Anthropic does."""

    def counted(part: Attached) -> int | None:
        if not isinstance(part, Image):
            return _words_in(part)
        width, height = _fit(*_size_of(request, part), long=_ANTHROPIC_SIDE)
        area = ceil(width * height / _AREA)
        squares = ceil(width / _SQUARE) * ceil(height / _SQUARE)
        return min(max(area, squares), _ANTHROPIC_MOST)

    return counted


def tokens_of_openai(model: str, width: int, height: int, detail: str = "") -> int:
    """Return how many tokens a picture of this size is to this model."""
    return _of_rule(_rule_of(model), width, height, detail)


def _rule_of(model: str) -> _Tiles | _Patches:
    named = model.rpartition("/")[2].removeprefix("ft:")
    fitting: Sequence[str] = [one for one in _OPENAI if named.startswith(one)]
    return _OPENAI[max(fitting, key=len)] if fitting else _UNKNOWN


def _of_rule(rule: _Tiles | _Patches, width: float, height: float, detail: str) -> int:
    if isinstance(rule, _Tiles):
        if detail == "low":
            return rule.base
        width, height = _fit(width, height, long=_TILED_LONG)
        shrunk = min(1.0, _TILED_SHORT / min(width, height))
        across, down = (ceil(_near(side * shrunk) / _TILE) for side in (width, height))
        return rule.base + rule.tile * across * down
    most = rule.most if detail == "high" or not rule.whole else rule.whole
    if detail == "low":
        width, height = _fit(width, height, long=_LOW_SIDE)
    return ceil(_patches(width, height, most) * rule.factor)


def _patches(width: float, height: float, most: int) -> int:
    """Return how many cover it; of one that is scaled down, all that there may be."""
    return min(ceil(width / _PATCH) * ceil(height / _PATCH), most)


def _fit(width: float, height: float, *, long: int) -> tuple[float, float]:
    shrunk = min(1.0, long / max(width, height))
    return width * shrunk, height * shrunk


def _near(side: float) -> float:
    return round(side, 6)


def _size_of(request: Request, part: Image) -> tuple[int, int]:
    info = info_of(request, part)
    return (info.width, info.height) if info.width and info.height else (_ANY_SIDE, _ANY_SIDE)


def _words_in(part: Attached) -> int | None:
    """Return the tokens of a text that is attached: one for each byte at the most."""
    return part.size if is_text(part.media_type) and part.size else None
