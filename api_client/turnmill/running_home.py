"""Settings of a command: the environment first, then what a running `turnmill up` has noted."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING

from turnmill.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: What `turnmill up` writes into its home once it is ready: the same line as `up --json`.
READY_FILE = "ready.json"


def settings_of_home(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings; where no URL is set, those of the system that runs in the home."""
    settings = Settings.from_env(environ)
    if settings.database_url:
        return settings
    noted = _noted(settings.home / READY_FILE)
    return dataclasses.replace(
        settings,
        database_url=noted.get("database_url", ""),
        broker_url=settings.broker_url or noted.get("broker_url", ""),
    )


def flower_url_of_home(settings: Settings) -> str:
    """Return where the Flower of this very system is, login included; empty without one."""
    noted = _noted(settings.home / READY_FILE)
    is_this = noted.get("database_url") == settings.database_url
    return noted.get("flower_url", "") if is_this else ""


def _noted(path: Path) -> dict[str, str]:
    """Return what was noted; nothing when its writer is gone, as it is after a kill."""
    try:
        found = json.loads(path.read_text())
        os.kill(int(found["pid"]), 0)
    except PermissionError:
        return {}  # somebody else's home
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return dict(found)
