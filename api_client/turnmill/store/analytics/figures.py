"""Reading figures: what turns came to in a window, by time, provider, model, tier, lane and tag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import Connection

from turnmill.domain.analytics.windows import Window


class Dimension(StrEnum):
    """What figures can be told apart by."""

    SLOT = "slot"  #: a quarter of an hour
    HOUR = "hour"
    DAY = "day"  #: local, as all that is longer
    WEEK = "week"
    MONTH = "month"
    PROVIDER = "provider"
    MODEL = "model"  #: as it was asked for
    TIER = "tier"  #: in which it was served; "" where the vendor does not say
    LANE = "lane"
    TAG = "tag"  #: of the session, under the key that the operator named; "" for none


class Latency(StrEnum):
    """Which time a turn took."""

    QUEUED = "queued"  #: from when it was accepted to its first start
    FIRST_TOKEN = "first_token"  #: from the request to the first token, of streamed replies
    PROVIDER = "provider"  #: of the request that was answered
    TOTAL = "total"  #: from when it was accepted until it was final


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the turns that ended in the window came to, with all their attempts, whenever made."""

    by: Mapping[Dimension, str | datetime] = field(default_factory=dict)  #: times are in UTC
    turns: int
    succeeded: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    attempts: int
    retries: int  #: calls beyond the first one of each turn
    steps: int  #: model calls that asked for tools
    input_tokens: int
    output_tokens: int
    cached_tokens: int  #: of the input, read from the vendor's cache
    cache_write_tokens: int
    cost_usd: Decimal  #: of all priced attempts
    waste_usd: Decimal  #: of it, of attempts that came to nothing
    unpriced_attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """How long it took: quantiles within 1 % of the exact ones."""

    by: Mapping[Dimension, str | datetime] = field(default_factory=dict)
    count: int  #: of turns that have such a time
    mean_ms: float | None  #: None: of none
    quantiles_ms: Mapping[float, float]  #: empty where count is 0


def totals(
    conn: Connection,
    window: Window,
    *,
    by: Sequence[Dimension] = (),
    zone: str = "UTC",
    only: Mapping[Dimension, str] = {},
) -> list[Totals]:
    """Return the figures of a window, one line for each combination; one in all for no `by`."""
    raise NotImplementedError


def percentiles(
    conn: Connection,
    window: Window,
    *,
    of: Latency,
    by: Sequence[Dimension] = (),
    zone: str = "UTC",
    only: Mapping[Dimension, str] = {},
    quantiles: Sequence[float] = (0.5, 0.9, 0.95, 0.99),
) -> list[Percentiles]:
    """Return how long it took, one line for each combination that has such a time."""
    raise NotImplementedError


def folded_until(conn: Connection) -> datetime | None:
    """Return until when the figures are whole; None: nothing was added up yet."""
    raise NotImplementedError
