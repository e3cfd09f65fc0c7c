"""Who acts: the name that the audit log has for whoever runs this process."""

import getpass
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from turnmill.settings import Settings


def actor_of(settings: "Settings") -> str:
    """Return the name in TURNMILL_ACTOR, or else the user of the operating system, after `os:`."""
    return settings.actor or f"os:{os_user()}"


def os_user() -> str:
    """Return the user of the operating system."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number only
        return f"uid-{os.getuid()}"
