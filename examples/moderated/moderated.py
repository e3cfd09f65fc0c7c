"""A moderator without a service: a list of words that neither users nor models may say here."""

import re

from turnmill_worker.layers import Layer, Said, moderation

#: By category. A real one asks a vendor's endpoint, or a model of your own.
WORDS = {"weapons": ("grenade", "nerve gas"), "secrets": ("project zephyr",)}
REFUSED = {
    category: re.compile("|".join(rf"\b{re.escape(word)}\b" for word in words), re.IGNORECASE)
    for category, words in WORDS.items()
}


async def judge(said: Said) -> str | None:
    """Return the category for which it is refused."""
    return next((one for one, words in REFUSED.items() if words.search(said.text)), None)


def make() -> Layer:
    """Return the layer: TURNMILL_LAYERS=moderation=moderated:make."""
    return moderation(judge)
