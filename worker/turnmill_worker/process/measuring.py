"""What a worker counts with and serves, where its operator asks for metrics."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill.store.nouns.closed_long import ClosedFor, closed_for
from turnmill_worker.layers import measure
from turnmill_worker.turn import written
from turnmill_worker.turn.in_hand import InHand
from turnmill_worker.turn.ledger import GroupedLedger
from turnmill_worker.turn.slots import Slots

if TYPE_CHECKING:
    from turnmill_worker.process.metrics_server import MetricsServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """Who is told of calls and verdicts, and what serves the counts."""

    called: measure.Told
    written: written.Told
    server: MetricsServer


def measuring(
    settings: Settings,
    *,
    providers: Collection[str],
    database: Database,
    ledger: GroupedLedger,
    in_hand: InHand,
    slots: Slots,
) -> Measuring:
    """Return it, for the port that the settings name. Prometheus' client is imported only here."""
    from turnmill_worker.process.metrics import Metrics  # noqa: PLC0415
    from turnmill_worker.process.metrics_server import MetricsServer  # noqa: PLC0415

    def closed() -> list[ClosedFor]:
        with database.single() as conn:
            return closed_for(conn)

    assert settings.metrics_port is not None
    metrics = Metrics(
        providers=providers,
        longest_waits=ledger.longest_waits_now,
        lags=ledger.lags_now,
        closed=closed,
        in_flight=lambda: len(in_hand),
        slots=lambda: slots.total,
    )
    server = MetricsServer(metrics.registry, host=settings.metrics_host, port=settings.metrics_port)
    return Measuring(called=metrics.called, written=metrics.written, server=server)
