"""The report of the last week: made once, when all its turns are in, for whoever wants it."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from turnmill.domain.analytics.report_data import ReportData
from turnmill.domain.analytics.weekly import Weekly
from turnmill.domain.analytics.windows import Window
from turnmill.domain.states import EventKind
from turnmill.show.report.document import document
from turnmill.show.report.line_files import write_text
from turnmill.show.report.page import report_page
from turnmill.store.analytics import made_reports, reporting
from turnmill.store.analytics.figures import folded_until
from turnmill.store.database import Database
from turnmill.store.rules.wanted import is_wanted
from turnmill_worker.process.closing import Counts

if TYPE_CHECKING:
    from sqlalchemy import Connection


def make(database: Database, weekly: Weekly, *, at: datetime) -> Counts:
    """Make it, unless it was made, nobody wants it, or turns of that week are not in yet.

    Files first: one that tells of a report that cannot be found is worse than none. Raises OSError
    where the folder cannot be written to; the next hour tries again.
    """
    week = weekly.last_week(at)
    with database.single() as conn:
        if not _is_to_be_made(conn, weekly, week):
            return {"reports": 0}
    data = database.run_single(reporting.read, week, zone=weekly.zone, thorough=True)
    file = None if weekly.folder is None else _written(weekly.folder, weekly.name_of(week), data)
    with database.begin() as conn:
        made = made_reports.note(conn, data, file=file)
    return {"reports": int(made is not None)}


def _is_to_be_made(conn: "Connection", weekly: Weekly, week: Window) -> bool:
    if weekly.folder is None and not is_wanted(conn, EventKind.REPORT_MADE):
        return False
    whole = folded_until(conn)
    if whole is None or whole < week.until:
        return False
    return not made_reports.is_made(conn, week, weekly.zone)


def _written(folder: Path, name: str, data: ReportData) -> str:
    """Write the page and the document; return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.html"
    write_text(page, report_page(data))
    write_text(folder / f"{name}.json", json.dumps(document(data), ensure_ascii=False))
    return str(page)
