"""Who may look, and who may act: by the login that a request came with."""

import hmac
from base64 import b64decode
from binascii import Error
from typing import Any

import tornado.web
from flower.views import BaseHandler

#: Unsafe by its method, and reads all the same: Flower's own list of tasks.
_READS = "/tasks/datatable"
_SAFE = ("GET", "HEAD", "OPTIONS")


def login_of(request: Any) -> str:
    """Return `user:password` of a request; empty where it has none that can be read.

    It is taken apart as Flower does, which lets in whoever it is: at blanks of any kind.
    """
    try:
        kind, credentials = request.headers.get("Authorization", "").split()
        return b64decode(credentials).decode() if kind.lower() == "basic" else ""
    except (Error, ValueError):
        return ""


class Logins:
    """Tells operators from viewers."""

    def __init__(self, options: Any, *, viewer: str) -> None:
        self._options = options
        self._viewer = viewer

    def is_viewer(self, request: Any) -> bool:
        """Tell whether this request is of somebody who may look only.

        Where there are viewers, whoever comes with a login that is not known to be another one's is
        one: what Flower reads in it, and we do not, is no way to more.
        """
        if not self._viewer or "Authorization" not in request.headers:
            return False
        given = login_of(request).encode()
        others = (one for one in self._options.basic_auth or () if one != self._viewer)
        return not any(hmac.compare_digest(given, one.encode()) for one in others)

    def may_act(self, handler: Any) -> bool:
        """Tell whether acts are open to whoever asks: nobody acts without a login."""
        options = self._options
        has_login = bool(options.basic_auth or options.auth)
        return has_login and not options.read_only and not self.is_viewer(handler.request)

    def name_of(self, handler: Any) -> str:
        """Return who it is, for the log."""
        user = handler.current_user
        name = user if isinstance(user, str) else login_of(handler.request).partition(":")[0]
        return name if name.isprintable() else ""

    def guard_flowers_own(self) -> None:
        """Let viewers do nothing in Flower's own pages and API either.

        Every request that is not safe by its method passes by this check before its handler sees
        it; Flower has no other place that all of them pass.
        """
        check = BaseHandler.check_xsrf_cookie
        if getattr(check, "is_guarded", False):
            return
        prefix = (self._options.url_prefix or "").strip("/")
        listed = (f"/{prefix}" if prefix else "") + _READS

        def guarded(handler: Any) -> None:
            reads = handler.request.path == listed
            if (
                handler.request.method not in _SAFE
                and not reads
                and self.is_viewer(handler.request)
            ):
                raise tornado.web.HTTPError(403, "this login may look, and not act")
            check(handler)

        guarded.is_guarded = True  # type: ignore[attr-defined]
        BaseHandler.check_xsrf_cookie = guarded
