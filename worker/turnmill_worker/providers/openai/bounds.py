"""How much OpenAI's models say at the most, thoughts included, as the vendor publishes it.

https://developers.openai.com/api/docs/models: "max output tokens" of each. A name that is not known
to the letter, but for the date of a snapshot, is bounded by what no model says.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

_MOST: Mapping[str, int] = MappingProxyType(
    {
        **dict.fromkeys(("gpt-3.5-turbo", "gpt-4-turbo"), 4_096),
        "gpt-4": 8_192,
        **dict.fromkeys(("chatgpt-4o-latest", "gpt-4o", "gpt-4o-mini", "gpt-4.5-preview"), 16_384),
        **dict.fromkeys(("gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o1-preview"), 32_768),
        "o1-mini": 65_536,
        **dict.fromkeys(("o1", "o1-pro", "o3", "o3-mini", "o3-pro", "o4-mini"), 100_000),
        **dict.fromkeys(("gpt-5", "gpt-5-codex", "gpt-5-mini", "gpt-5-nano", "gpt-5.1"), 128_000),
        "gpt-5-pro": 272_000,
    }
)
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}")


def most_output_of(model: str) -> int | None:
    """Return the most tokens of one call; None where the vendor has not said so of this name."""
    return _MOST.get(_SNAPSHOT.sub("", model, count=1) if model not in _MOST else model)
