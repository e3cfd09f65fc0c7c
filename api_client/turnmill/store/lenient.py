"""Reading from the store what Python cannot hold: an odd row must not cost its neighbours."""

from datetime import datetime
from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap, Loader
from psycopg.pq import Format
from psycopg.types.json import set_json_loads

from turnmill.domain.bounds import EARLIEST, LATEST
from turnmill.domain.json_values import lenient_json

_TIMESTAMPTZ = psycopg.adapters.types["timestamptz"].oid
# The fast one, in C, where it is installed.
_Strict: Any = psycopg.adapters.get_loader(_TIMESTAMPTZ, Format.TEXT)


class LenientTimestamp(Loader):
    """Reads an instant beyond what Python holds as the bound that it lies behind.

    So it sorts and compares as it should. `turnmill doctor` lists such rows.
    """

    def __init__(self, oid: int, context: Any = None) -> None:
        super().__init__(oid, context)
        self._load = _Strict(oid, context).load

    def load(self, data: Any) -> datetime:
        """Return the instant, or the nearest bound."""
        try:
            found: datetime = self._load(data)
        except (psycopg.DataError, OverflowError):
            text = bytes(data)
            return EARLIEST if text.startswith(b"-") or text.endswith(b"BC") else LATEST
        return found


def _adapters() -> AdaptersMap:
    adapters = AdaptersMap(psycopg.adapters)
    adapters.register_loader("timestamptz", LenientTimestamp)
    set_json_loads(lenient_json, context=_Context(adapters))
    return adapters


class _Context:
    """What psycopg asks for a map of adapters."""

    connection = None

    def __init__(self, adapters: AdaptersMap) -> None:
        self.adapters = adapters


#: What connections of ours read with.
ADAPTERS = _adapters()
