"""Pages that do something: a preview of what is meant, the act itself, and how far it is."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import tornado.web

from turnmill.domain.ids import as_uuid
from turnmill.domain.states import Lane
from turnmill.store.board.acts import Meant, Preview, Verb, preview
from turnmill.verbs.verb import Connection
from turnmill_worker.flower.deeds import Brake
from turnmill_worker.flower.handlers import Page, Route

#: A preview that is older has to be looked at again.
_PREVIEW_HOLDS = timedelta(hours=1)
_CLOCKS_APART = timedelta(minutes=1)
#: Most acts are over by then; others are watched on their page.
_WAIT = 1.5

_TEXTS = ("state", "code", "lane", "provider")
_IDS = ("turn", "session", "batch")
_BRAKES = ("pause", "resume")
_KINDS = ("lane", "provider", "session")


class Act(Page):
    """GET shows how many turns are meant and what it may cost; POST does it, once."""

    def check_xsrf_cookie(self) -> None:
        """Refuse what another site has sent: by its origin, as Flower does, and by our token.

        Flower asks nobody for a token who has a login in the header: browsers send that along by
        themselves.
        """
        super().check_xsrf_cookie()
        tornado.web.RequestHandler.check_xsrf_cookie(self)

    @tornado.web.authenticated
    async def get(self, *_: str) -> None:
        """Show what would be done. It changes nothing."""
        self._refuse_viewers()
        if self.typed("verb") in _BRAKES:
            brake = self._brake(datetime.now(UTC))
            waiting = await self._braked(brake)
            self.show("brake.html", act=brake, waiting=waiting, fields=_fields(brake))
            return
        asked = self._meant(datetime.now(UTC))

        def read(conn: Connection, moment: datetime) -> tuple[Meant, Preview]:
            meant = replace(asked, upto=moment)
            return meant, preview(conn, meant)

        seen = await self.board.ask(read)
        if seen.value is None:
            self.show("unread.html", seen)
        else:
            meant, found = seen.value
            self.show("preview.html", seen, meant=meant, found=found, fields=_fields(meant))

    @tornado.web.authenticated
    async def post(self, *_: str) -> None:
        """Do it, or go on with what was begun by the same form."""
        self._refuse_viewers()
        upto = self._upto()
        act = self._brake(upto) if self.typed("verb") in _BRAKES else self._meant(upto)
        begun = self.tab.deeds.begin(act, by=self.tab.logins.name_of(self))
        if begun is None:
            raise tornado.web.HTTPError(503, "too many acts are being done: try again later")
        deed, doing = begun
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(doing)), _WAIT)
        self.redirect(self.at(f"/turnmill/acts/{deed.key}"), status=303)

    def _refuse_viewers(self) -> None:
        if not self.tab.logins.may_act(self):
            raise tornado.web.HTTPError(403, "this login may look, and not act")
        if not self.tab.deeds.can_act:
            raise tornado.web.HTTPError(
                403, "Flower has no way to the database: it is not told TURNMILL_VIEWER_URL"
            )
        if self.typed("verb") in _BRAKES and not self.tab.deeds.can_brake:
            raise tornado.web.HTTPError(
                403, "Flower may not pause or resume: it is not told TURNMILL_DATABASE_URL"
            )

    def _upto(self) -> datetime:
        """Return the moment of the preview, which says what the act means."""
        try:
            upto = datetime.fromisoformat(self.typed("upto") or "")
        except ValueError:
            raise tornado.web.HTTPError(400, "no preview was looked at") from None
        now = datetime.now(UTC)
        if upto.tzinfo is None or not now - _PREVIEW_HOLDS < upto < now + _CLOCKS_APART:
            raise tornado.web.HTTPError(400, "the preview is old: look at it again")
        return upto

    def _meant(self, upto: datetime) -> Meant:
        try:
            verb = Verb(self.typed("verb") or "")
        except ValueError:
            raise tornado.web.HTTPError(400, "verb is retry, cancel, pause or resume") from None
        wanted: dict[str, Any] = {name: self.typed(name) for name in _TEXTS}
        wanted |= {name: self.id_typed(name) for name in _IDS}
        if verb is Verb.CANCEL and not any(wanted.values()):
            raise tornado.web.HTTPError(400, "say what is to be cancelled")
        return Meant(verb=verb, upto=upto, **wanted)

    def _brake(self, upto: datetime) -> Brake:
        verb, kind, name = self.typed("verb") or "", self.typed("kind"), self.typed("name")
        if kind not in _KINDS or name is None:
            raise tornado.web.HTTPError(400, "say the lane, the provider or the session")
        if kind == "lane" and name not in list(Lane):
            raise tornado.web.HTTPError(400, f"a lane is one of {', '.join(Lane)}")
        if kind == "session" and as_uuid(name) is None:
            raise tornado.web.HTTPError(404, "there is no session of this id")
        return Brake(verb=verb, kind=kind, name=name, upto=upto)

    async def _braked(self, brake: Brake) -> int | None:
        """Return how many turns that are not final it concerns; None: nobody could tell in time."""
        if brake.kind == "session":
            session = (await self.board.session(self.id_of(brake.name), None)).value
            return None if session is None else int(session.session["unfinished"])
        now = (await self.board.now()).value
        if now is None:
            return None
        lanes = [one for one in now.lanes if brake.name in (one.lane, one.provider)]
        return sum(one.due + one.later + one.running + one.behind for one in lanes)


class ActPage(Page):
    """How far an act is, or what came of it."""

    @tornado.web.authenticated
    async def get(self, *keys: str) -> None:
        """Show it; it is forgotten when Flower ends, and so may be done again."""
        deed = self.tab.deeds.get(keys[0])
        if deed is None:
            raise tornado.web.HTTPError(404, "nobody remembers this act: look what is left to do")
        if self.as_json:
            told = {name: getattr(deed, name) for name in ("total", "done", "passed", "error")}
            self.write({**told, "refused": dict(deed.refused), "over": deed.ended is not None})
        else:
            self.show("act.html", deed=deed)


def _fields(act: Meant | Brake) -> Mapping[str, Any]:
    """Return the fields of the form that does it."""
    given = {name: getattr(act, name) for name in act.__dataclass_fields__}
    return {**{name: one for name, one in given.items() if one}, "upto": act.upto.isoformat()}


def act_pages() -> Sequence[Route]:
    """Return where acts are."""
    return [
        ("/turnmill/act", Act, {}, "turnmill-act"),
        (r"/turnmill/acts/([0-9a-f]{24})", ActPage, {}, "turnmill-deed"),
        (r"/turnmill/api/acts/([0-9a-f]{24})", ActPage, {"as_json": True}, "turnmill-api-deed"),
    ]
