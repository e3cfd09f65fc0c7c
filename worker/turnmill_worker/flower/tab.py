"""The tab as a whole: its board, its acts, its pages and its gauges, put into one Flower."""

from collections.abc import Mapping
from typing import Any

from flower.views.monitor import Metrics
from tornado.web import StaticFileHandler, authenticated, url

from turnmill.role_urls import VIEWER
from turnmill.settings import Settings
from turnmill.store.database import Database
from turnmill_worker.flower.acting import act_pages
from turnmill_worker.flower.board import THREADS, Board
from turnmill_worker.flower.deeds import Deeds
from turnmill_worker.flower.gauges import Gauges
from turnmill_worker.flower.handlers import STATIC, Tab, pages
from turnmill_worker.flower.loading import Loader
from turnmill_worker.flower.logins import Logins


def add_tab(
    flower: Any, settings: Settings, environ: Mapping[str, str], *, viewer_login: str
) -> None:
    """Add the tab to a Flower that does not listen yet. It reads as soon as Flower runs."""
    logins = Logins(flower.options, viewer=viewer_login)
    logins.guard_flowers_own()
    runtime = _database(settings.database_url, settings)
    viewer = _database(environ.get(VIEWER, ""), settings) or runtime
    board = Board(viewer, runtime, lambda: flower.capp.control)
    tab = Tab(board=board, deeds=Deeds(settings, viewer), logins=logins, environ=dict(environ))
    flower.settings["template_loader"] = Loader(flower.settings["template_path"])
    prefix = "/" + (flower.options.url_prefix or "").strip("/")
    prefix = prefix.rstrip("/")
    routes = [
        url(prefix + path, handler, {"tab": tab, **options}, name=name)
        for path, handler, options, name in (*pages(), *act_pages())
    ]
    static = url(f"{prefix}/turnmill/static/(.*)", StaticFileHandler, {"path": str(STATIC)})
    flower.add_handlers(".*", [*routes, static])
    _measure(board)
    flower.io_loop.add_callback(board.begin)


def _database(database_url: str, settings: Settings) -> Database | None:
    """Return a way to the database; None where none is named, or nobody else could look at it."""
    if not database_url.startswith("postgres"):
        return None
    return Database(database_url, schema=settings.schema, pool_size=THREADS, overflow=0)


def _measure(board: Board) -> None:
    """Have /metrics tell of turns, and ask for the login, which Flower leaves out there."""
    tell = Metrics.get
    gauges = Gauges(board)

    async def get(handler: Any) -> None:
        await gauges.refresh()
        await tell(handler)

    Metrics.get = authenticated(get)
