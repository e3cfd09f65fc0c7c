"""Looks at what is judged as the job does, without rows: for rules that are tried over years."""

from collections.abc import Collection, Iterable
from datetime import datetime
from uuid import uuid4

from turnmill.domain.analytics.alert_bounds import Rule
from turnmill.domain.analytics.alert_moves import Closes, Key, OpenAlert, Opens, Stays, moves
from turnmill.domain.analytics.alerting import Judged


class Watch:
    """Looks as the job does, and counts what opens and closes."""

    def __init__(self) -> None:
        self.open: dict[Key, OpenAlert] = {}
        self.closed: dict[Key, datetime] = {}
        self.opened: list[tuple[Key, datetime]] = []
        self.ended: list[tuple[Key, datetime]] = []

    def look(
        self, judged: Iterable[Judged | None], at: datetime, *, blind: Collection[Rule] = ()
    ) -> None:
        said = [one for one in judged if one is not None]
        for move in moves(said, self.open.values(), closed=self.closed, at=at, blind=blind):
            self._do(move, at)

    def _do(self, move: object, at: datetime) -> None:
        keys = {alert.id: key for key, alert in self.open.items()}
        if isinstance(move, Opens):
            one = move.judged
            key = (one.rule, one.subject)
            self.opened.append((key, at))
            self.open[key] = OpenAlert(
                id=uuid4(),
                rule=one.rule,
                subject=one.subject,
                value=one.value,
                worst=one.value,
                calm_since=None,
            )
        elif isinstance(move, Closes):
            key = keys[move.id]
            del self.open[key]
            self.closed[key] = at
            self.ended.append((key, at))
        elif isinstance(move, Stays):
            key = keys[move.id]
            self.open[key] = OpenAlert(
                id=move.id,
                rule=key[0],
                subject=key[1],
                value=move.value,
                worst=move.worst,
                calm_since=move.calm_since,
            )
