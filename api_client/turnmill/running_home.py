"""Settings of a command: the environment first, then what a running `turnmill up` has noted."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from types import MappingProxyType
from typing import TYPE_CHECKING

from turnmill.ownership import doubt_about, read_our_note
from turnmill.role_urls import RoleUrls
from turnmill.settings import Profile, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: What `turnmill up` writes into its home once it is ready: the same line as `up --json`.
READY_FILE = "ready.json"
LOCK_FILE = "lock"  #: held by the `turnmill up` that runs on the home
#: Beside its passwords: URLs of other roles of the database that came along, by whose they are.
ROLE_FILES = MappingProxyType(
    {role: f"secrets/{role}-url" for role in ("owner", "viewer", "producer", "auditor", "analyst")}
)

_log = logging.getLogger(__name__)


def settings_of_home(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings; where no URL is set, those of the system that runs in the home.

    In production a URL that was forgotten is no reason to look around. A home that others may have
    written leads nowhere; a line of the log says so.
    """
    settings = Settings.from_env(environ)
    if settings.database_url or settings.profile is Profile.PRODUCTION:
        return settings
    if os.path.lexists(settings.home / READY_FILE) and (doubt := doubt_about(settings.home)):
        _log.warning("the home %r is not believed: %s", str(settings.home), doubt)
    noted = _noted(settings.home / READY_FILE)
    return dataclasses.replace(
        settings,
        database_url=noted.get("database_url", ""),
        broker_url=settings.broker_url or noted.get("broker_url", ""),
    )


def role_urls_of_home(settings: Settings, environ: Mapping[str, str] | None = None) -> RoleUrls:
    """Return the URLs of other roles; those of the system that runs in the home, too."""
    urls = RoleUrls.from_env(settings, environ)
    if _noted(settings.home / READY_FILE).get("database_url") != settings.database_url:
        return urls
    unset = [role for role in ROLE_FILES if not getattr(urls, role)]
    found = {role: _role_noted(settings.home / ROLE_FILES[role]) for role in unset}
    return dataclasses.replace(urls, **found)


def _role_noted(path: Path) -> str:
    """Return the URL; empty where the system brought no database of its own."""
    try:
        return read_our_note(path)
    except OSError:
        return ""


def flower_url_of_home(settings: Settings) -> str:
    """Return where the Flower of this very system is, login included; empty without one."""
    noted = _noted(settings.home / READY_FILE)
    is_this = noted.get("database_url") == settings.database_url
    return noted.get("flower_url", "") if is_this else ""


def _noted(path: Path) -> dict[str, str]:
    """Return what was noted; nothing where others may have written it, or its writer is gone."""
    if doubt_about(path.parent):
        return {}
    try:
        found = json.loads(read_our_note(path))
    except (OSError, ValueError):
        return {}
    return dict(found) if isinstance(found, dict) and is_held(path.with_name(LOCK_FILE)) else {}


def is_held(lock: Path) -> bool:
    """Tell whether a process holds this file, as `turnmill up` holds its home as long as it runs.

    A number of a process would not tell: the next one may have it, and anybody may write it down.
    """
    import fcntl  # noqa: PLC0415  Windows has none, and no `turnmill up`

    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
