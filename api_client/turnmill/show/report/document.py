"""A report as JSON: everything that is in it, by the names that it has, under a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from turnmill.domain.analytics.report_data import Figures, ReportData

#: Of the shape. Fields may be added under the same one; none is renamed or taken away.
VERSION = 1


def document(data: ReportData) -> dict[str, Any]:
    """Return it: moments and costs are texts, so that no digit is lost."""
    return {"version": VERSION, **_plain(data)}


def _plain(value: Any) -> Any:
    if isinstance(value, Figures):
        return {**_of(value), **_shares(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return _of(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Mapping):
        return {str(_plain(name)): _plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, UUID) else value


def _of(value: Any) -> dict[str, Any]:
    return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}


def _shares(value: Figures) -> dict[str, Any]:
    return {"failure_rate": value.failure_rate, "cached_share": value.cached_share}
