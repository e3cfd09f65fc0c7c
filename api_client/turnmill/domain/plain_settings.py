"""What of settings stands plain where they are encrypted: what is read without a key."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from turnmill.domain.bounds import SETTING_CHOICES
from turnmill.domain.reply_limits import LIMITS_OF_REPLIES
from turnmill.domain.targets import FALLBACK

#: Digits of the longest limit that is told apart from other words.
_LONGEST_LIMIT = 9


def _limit(value: Any) -> Any:
    digits = str(value) if type(value) in (int, str) else ""
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_LIMIT
    return value if is_number else None


def _choice(name: str) -> Callable[[Any], Any]:
    return lambda value: value if value in SETTING_CHOICES[name] else None


def _names_of_targets(value: Any) -> Any:
    """Return whom a fallback names, each without settings of its own."""
    if not isinstance(value, list):
        return None
    return [
        {name: one[name] for name in ("provider", "model") if isinstance(one.get(name), str)}
        if isinstance(one, Mapping)
        else None
        for one in value
    ]


def _whether_any(value: Any) -> Any:
    return True if value else None


#: Each setting that is read in SQL, or without a key, and what of it stands plain; None: nothing.
#: Of one that comes here later, that is so in what is written from then on, or rotated.
PLAIN_SETTINGS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        FALLBACK: _names_of_targets,
        **dict.fromkeys(LIMITS_OF_REPLIES, _limit),
        **{name: _choice(name) for name in ("api", "prompt_cache", "reply_as")},
        **dict.fromkeys(("tools", "prompt"), _whether_any),
    }
)


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of settings stands plain beside what is sealed of them."""
    told = {name: of(settings[name]) for name, of in PLAIN_SETTINGS.items() if name in settings}
    return {name: value for name, value in told.items() if value is not None}
