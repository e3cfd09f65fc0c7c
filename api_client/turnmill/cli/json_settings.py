"""Settings as people type them: a JSON object."""

from __future__ import annotations

import json
from typing import Any

import click


def object_of(settings: str | None) -> dict[str, Any] | None:
    """Return the object; None for None."""
    if settings is None:
        return None
    try:
        found = json.loads(settings)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("no JSON object", param_hint="--settings")
    return found
