"""How long a reply may be: one setting, which goes by several names, and is said once."""

from collections.abc import Mapping
from typing import Any

#: Beside our own name, what vendors call the same.
LIMITS_OF_REPLIES = ("max_output_tokens", "max_tokens", "max_completion_tokens")


def laid_over(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with somebody's `own` put over them.

    Who says how long a reply may be says all of it: what is below said it by another name, too, and
    a vendor that is told both would go by one of the two.
    """
    if any(own.get(name) is not None for name in LIMITS_OF_REPLIES):
        settings = {name: one for name, one in settings.items() if name not in LIMITS_OF_REPLIES}
    return {**settings, **own}
