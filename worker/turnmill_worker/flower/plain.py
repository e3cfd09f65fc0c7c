"""What the board has read as JSON knows it."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from turnmill.show.why_view import in_a_line
from turnmill.store.nouns.why import Why
from turnmill_worker.flower.panels import Seen


def plain(value: Any) -> Any:
    """Return records as objects, what a turn waits for in words, and money as text."""
    match value:
        case Why():
            return {"turn_id": str(value.turn_id), "waits_for": in_a_line(value)}
        case Seen():
            return {
                "as_of": plain(value.as_of),
                "fresh": value.is_fresh,
                "error": value.error or None,
                "value": plain(value.value),
            }
        case datetime():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(one) for one in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return {name: plain(getattr(value, name)) for name in names}
        case _:
            return value
