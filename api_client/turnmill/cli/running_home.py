"""Settings of a command: the environment first, then what a running `turnmill up` has noted."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from turnmill.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

#: What `turnmill up` writes into its home once it is ready: the same line as `up --json`.
READY_FILE = "ready.json"


def settings_of_home() -> Settings:
    """Return the settings; where no URL is set, those of the system that runs in the home."""
    settings = Settings.from_env()
    if settings.database_url:
        return settings
    noted = _noted(settings.home / READY_FILE)
    return dataclasses.replace(
        settings,
        database_url=noted.get("database_url", ""),
        broker_url=settings.broker_url or noted.get("broker_url", ""),
    )


def _noted(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
