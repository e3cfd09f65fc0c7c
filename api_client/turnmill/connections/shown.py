"""How a URL is shown: where it leads, and nothing of who may go there."""

import re

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_PLACE = re.compile(r"(?:(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?)?", re.ASCII)
_PATH = re.compile(r"(?:/[\w. /~+-]*)?")
#: Between whole URLs, as kombu takes several.
_BETWEEN = re.compile(r"[;,](?=[A-Za-z][A-Za-z0-9+.-]*://)")

HIDDEN = "…"


def shown(url: str) -> str:
    """Return a URL without user, password and parameters, for terminals, logs and errors.

    A password that nobody has encoded may hold any of `@ : / ? # ; ,`: what could be a part of
    one is replaced by `…`.
    """
    return ";".join(_one(part) for part in _BETWEEN.split(url))


def _one(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found or not _SCHEME.fullmatch(scheme):
        return HIDDEN
    before = re.split("[?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(before) :]:  # is what follows a password's, or the host's? Nobody knows
        return f"{scheme}://{HIDDEN}"
    places, slash, path = before.rpartition("@")[2].partition("/")
    if not all(_PLACE.fullmatch(place) for place in places.split(",")):
        return f"{scheme}://{HIDDEN}"
    return f"{scheme}://{places}{slash}{path if _PATH.fullmatch(slash + path) else HIDDEN}"
