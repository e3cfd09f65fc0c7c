"""The tab's pages, each of them for people and, under `/turnmill/api`, for programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import tornado.gen
import tornado.web
from flower.views import BaseHandler

from turnmill import __version__
from turnmill.domain.ids import as_uuid
from turnmill.store.board.spending import MOST_MODELS
from turnmill_worker.celery.schedule import next_runs
from turnmill_worker.flower.board import Board
from turnmill_worker.flower.deeds import Deeds
from turnmill_worker.flower.logins import Logins
from turnmill_worker.flower.panels import Seen
from turnmill_worker.flower.plain import plain
from turnmill_worker.flower.words import Words

STATIC = Path(__file__).parent / "static"
_MOST_TYPED = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Tab:
    """What all pages share."""

    board: Board
    deeds: Deeds
    logins: Logins
    environ: Mapping[str, str] = field(repr=False)


class Page(BaseHandler):  # type: ignore[misc]
    """A page behind the login, which is never kept by anybody in between."""

    page = ""  #: its template
    no_such = "there is nothing of this id"

    def initialize(self, tab: Tab, as_json: bool = False) -> None:
        """Take what all pages share."""
        self.tab = tab
        self.board = tab.board
        self.as_json = as_json

    def set_default_headers(self) -> None:
        """Let nobody keep a page, frame it, or be told by it where its reader came from."""
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Frame-Options", "DENY")
        self.set_header("Referrer-Policy", "same-origin")

    async def seen(self, *ids: str) -> dict[str, Any]:
        """Return what the page shows, by the names that its template knows."""
        raise NotImplementedError

    @tornado.web.authenticated
    async def get(self, *ids: str) -> None:
        """Show it."""
        if not self.board.is_there:
            self._say_that_nothing_is_there()
            return
        names = await self.seen(*ids)
        main: Seen[Any] = names["main"]
        if main.is_fresh and main.value is None:
            raise tornado.web.HTTPError(404, self.no_such)
        if self.as_json:
            self._write_json(names)
        else:
            self.show(self.page, **names)

    def show(self, page: str, main: "Seen[Any] | None" = None, **names: Any) -> None:
        """Write a page for people."""
        if main is not None and main.value is None:
            self.set_status(503)
            self.set_header("Retry-After", "5")
            page = "unread.html"
        self.render(
            f"turnmill/{page}",
            **{
                "main": main,
                "w": Words(main.as_of if main is not None else None),
                "at": self.at,
                "may_act": self.tab.deeds.can_act and self.tab.logins.may_act(self),
                "may_brake": self.tab.deeds.can_brake and self.tab.logins.may_act(self),
                "static": f"{self.at('/turnmill/static')}/{{}}?v={__version__}",
                **names,
            },
        )

    def at(self, path: str, **query: Any) -> str:
        """Return an address of ours, under the prefix that Flower has."""
        prefix = (self.application.options.url_prefix or "").strip("/")
        given = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return (f"/{prefix}" if prefix else "") + path + (f"?{urlencode(given)}" if given else "")

    def typed(self, name: str) -> str | None:
        """Return what was typed into a field; None for nothing."""
        text = self.get_argument(name, "", escape=False) or ""
        if len(text) > _MOST_TYPED or not text.isprintable():
            raise tornado.web.HTTPError(400, f"{name} is out of bounds")
        return text or None

    def id_typed(self, name: str) -> UUID | None:
        """Return the id in a field; None for nothing."""
        text = self.typed(name)
        return None if text is None else self.id_of(text)

    def id_of(self, text: str) -> UUID:
        """Return the id that this spells, or answer that there is nothing of it."""
        found = as_uuid(text)
        if found is None:
            raise tornado.web.HTTPError(404, self.no_such)
        return found

    def _write_json(self, names: Mapping[str, Any]) -> None:
        if names["main"].value is None:
            self.set_status(503)
        told = {name: plain(value) for name, value in names.items() if isinstance(value, Seen)}
        further = names.get("further")
        self.write({**told, "next": further} if "further" in names else told)

    def _say_that_nothing_is_there(self) -> None:
        self.set_status(503)
        if self.as_json:
            self.write({"error": "no_database"})
        else:
            self.show("nowhere.html")


class OverviewPage(Page):
    """What is stuck, why, since when, what it costs."""

    page = "overview.html"

    async def seen(self, *_: str) -> dict[str, Any]:
        """Ask for all of it at once."""
        board = self.board
        names = ("main", "ended", "batches", "spent", "jobs", "elsewhere", "workers")
        asked = (
            *(board.now(), board.ended(), board.newest_batches(), board.spent()),
            *(board.jobs(), board.elsewhere(), board.workers()),
        )
        found = dict(zip(names, await tornado.gen.multi(list(asked)), strict=True))
        return {
            **found,
            "next_runs": self._next_runs(),
            "deeds": self.tab.deeds.latest()[:5],
            "most_models": MOST_MODELS,
        }

    def _next_runs(self) -> Mapping[str, datetime | None]:
        return next_runs(self.tab.environ, now=datetime.now(UTC))


class WaitingPage(Page):
    """Turns that are not final, with what each waits for."""

    page = "waiting.html"

    async def seen(self, *_: str) -> dict[str, Any]:
        """Read a page of them."""
        reason, name = self.typed("reason"), self.typed("name")
        session, seq = self.id_typed("after"), self.typed("seq") or "0"
        after = None if session is None or not seq.isdecimal() else (session, int(seq))
        main = await self.board.waiting(reason, name, after)
        last = main.value[1] if main.value else None
        further = last and self.at(
            self.request_path, reason=reason, name=name, after=last[0], seq=last[1]
        )
        return {"main": main, "reason": reason, "name": name, "further": further}

    @property
    def request_path(self) -> str:
        """Return where the next page is."""
        return "/turnmill/api/waiting" if self.as_json else "/turnmill/waiting"


class FailedPage(Page):
    """Turns without a reply."""

    page = "failed.html"

    async def seen(self, *_: str) -> dict[str, Any]:
        """Read a page of them."""
        state, code, batch = self.typed("state"), self.typed("code"), self.id_typed("batch")
        main = await self.board.failed(state, code, batch, self.id_typed("after"))
        last = main.value[1] if main.value else None
        wanted = {"state": state, "code": code, "batch": batch}
        path = "/turnmill/api/failed" if self.as_json else "/turnmill/failed"
        return {"main": main, **wanted, "further": last and self.at(path, **wanted, after=last)}


class BatchesPage(Page):
    """Batches, the newest first."""

    page = "batches.html"

    async def seen(self, *_: str) -> dict[str, Any]:
        """Read a page of them."""
        main = await self.board.batches(self.id_typed("after"))
        last = main.value[1] if main.value else None
        path = "/turnmill/api/batches" if self.as_json else "/turnmill/batches"
        return {"main": main, "further": last and self.at(path, after=last)}


class TurnPage(Page):
    """What happened to a turn."""

    page = "turn.html"
    no_such = "there is no turn of this id"

    async def seen(self, *ids: str) -> dict[str, Any]:
        """Read it."""
        return {"main": await self.board.turn(self.id_of(ids[0]))}


class SessionPage(Page):
    """A session and its line."""

    page = "session.html"
    no_such = "there is no session of this id"

    async def seen(self, *ids: str) -> dict[str, Any]:
        """Read it."""
        session_id, before = self.id_of(ids[0]), self.typed("before") or ""
        main = await self.board.session(session_id, int(before) if before.isdecimal() else None)
        last = main.value.before if main.value else None
        path = f"/turnmill/{'api/' if self.as_json else ''}session/{session_id}"
        return {"main": main, "further": last and self.at(path, before=last)}


class SessionsPage(Page):
    """Sessions of a user, who is named by whoever asks."""

    page = "sessions.html"

    async def seen(self, *_: str) -> dict[str, Any]:
        """Read a page of them."""
        user = self.typed("user")
        if user is None or not self.board.can_look_up:
            raise tornado.web.HTTPError(404, "name a user: ?user=…, with a database to ask")
        main = await self.board.sessions_of(user, self.id_typed("after"))
        last = main.value[1] if main.value else None
        path = "/turnmill/api/sessions" if self.as_json else "/turnmill/sessions"
        further = last and self.at(path, user=user, after=last)
        return {"main": main, "user": user, "further": further}


class Find(Page):
    """Leads from what was typed to what it names: a turn, a session, or else a user."""

    @tornado.web.authenticated
    async def get(self, *_: str) -> None:
        """Lead there."""
        text = (self.typed("q") or "").strip()
        found = as_uuid(text)
        if found is None:
            path = self.at("/turnmill/sessions", user=text) if text else self.at("/turnmill")
        elif (await self.board.turn(found)).value is not None:
            path = self.at(f"/turnmill/turn/{found}")
        elif (await self.board.session(found, None)).value is not None:
            path = self.at(f"/turnmill/session/{found}")
        else:
            path = self.at("/turnmill/failed", batch=found)
        self.redirect(path)


Route = tuple[str, type[Page], dict[str, Any], str]

_ID = r"([0-9a-fA-F-]{32,36})"
_PAGES: tuple[tuple[str, type[Page], str], ...] = (
    ("", OverviewPage, "overview"),
    ("/waiting", WaitingPage, "waiting"),
    ("/failed", FailedPage, "failed"),
    ("/batches", BatchesPage, "batches"),
    ("/sessions", SessionsPage, "sessions"),
    (f"/session/{_ID}", SessionPage, "session"),
    (f"/turn/{_ID}", TurnPage, "turn"),
)


def pages() -> list[Route]:
    """Return where each page is, twice: for people and for programs."""
    people: list[Route] = [
        (f"/turnmill{path}", page, {}, f"turnmill-{name}") for path, page, name in _PAGES
    ]
    programs: list[Route] = [
        (
            f"/turnmill/api{path or '/overview'}",
            page,
            {"as_json": True},
            f"turnmill-api-{name}",
        )
        for path, page, name in _PAGES
    ]
    others: list[Route] = [
        ("/turnmill/", OverviewPage, {}, "turnmill-overview-slash"),
        ("/turnmill/find", Find, {}, "turnmill-find"),
    ]
    return [*people, *programs, *others]
