"""Advice names commands as they can be typed where it is read."""

from __future__ import annotations

import os
import re
import shutil
import sys
from functools import cache

_COMMAND = re.compile(r"(?<![\w./-])turnmill(?= [a-z])")


def as_typed(advice: str) -> str:
    """Return advice with `turnmill …` as it was called: the program may not be on the PATH."""
    return _COMMAND.sub(lambda _: program(), advice)


@cache
def program() -> str:
    """Return how this program can be called again from here."""
    called = sys.argv[0]
    name = os.path.basename(called)
    if name != "turnmill":
        return f"{os.path.basename(sys.executable)} -m turnmill.cli"
    found = shutil.which(name)
    if os.sep not in called or (found and os.path.realpath(found) == os.path.realpath(called)):
        return name
    try:
        relative = os.path.relpath(called)
    except OSError:  # the current folder is gone
        return called
    return min(relative, called, key=len)
