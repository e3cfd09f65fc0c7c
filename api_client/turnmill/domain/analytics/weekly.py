"""The report of a week: of when it is, how it is called, and where an operator wants it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from turnmill.domain.analytics.windows import Grain, Window, start_of
from turnmill.domain.budgets import time_zone
from turnmill.domain.errors import InvalidInput, InvalidSetting

FOLDER, ZONE = "TURNMILL_REPORT_FOLDER", "TURNMILL_REPORT_ZONE"
_IN_THE_WEEK_BEFORE = timedelta(days=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weekly:
    """Where reports of weeks go, and whose weeks these are."""

    folder: Path | None = None  #: None: into none
    zone: str = "UTC"

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Self:
        """Read TURNMILL_REPORT_FOLDER and TURNMILL_REPORT_ZONE; raises InvalidSetting."""
        folder = environ.get(FOLDER, "")
        try:
            zone = time_zone(environ.get(ZONE) or "UTC")
        except InvalidInput as error:
            raise InvalidSetting(f"{ZONE} names no time zone", hint=error.hint) from None
        return cls(folder=Path(folder) if folder else None, zone=zone)

    def last_week(self, at: datetime) -> Window:
        """Return the last week that is over, from Monday to Monday in the zone."""
        named = ZoneInfo(self.zone)
        until = start_of(Grain.WEEK, at, named)
        return Window(start_of(Grain.WEEK, until - _IN_THE_WEEK_BEFORE, named), until)

    def name_of(self, week: Window) -> str:
        """Return what its files are called, without their ending: `turnmill-2026-W47`."""
        monday = week.since.astimezone(ZoneInfo(self.zone)).date()
        year, number, _ = monday.isocalendar()
        return f"turnmill-{year}-W{number:02}"
