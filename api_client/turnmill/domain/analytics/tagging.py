"""Which key of sessions' metadata figures are told apart by."""

import re
from collections.abc import Mapping

from turnmill.domain.errors import InvalidSetting

VARIABLE = "TURNMILL_ANALYTICS_TAG"
_KEY = re.compile(r"[\w.:-]{1,100}")


def analytics_tag(environ: Mapping[str, str]) -> str:
    """Return the key; "" for none. Raises InvalidSetting for what can be none."""
    key = environ.get(VARIABLE, "").strip()
    if key and not _KEY.fullmatch(key):
        raise InvalidSetting(
            f"{VARIABLE} is no key that figures can be told apart by",
            hint="one key of sessions' metadata, such as team: letters, digits and . : - _",
        )
    return key
