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
    """Return `user:password` of a request; empty where it has none that can be read."""
    kind, _, credentials = request.headers.get("Authorization", "").partition(" ")
    try:
        return b64decode(credentials.strip()).decode() if kind.lower() == "basic" else ""
    except (Error, ValueError):
        return ""


class Logins:
    """Tells operators from viewers."""

    def __init__(self, options: Any, *, viewer: str) -> None:
        self._options = options
        self._viewer = viewer

    def is_viewer(self, request: Any) -> bool:
        """Tell whether this request is of somebody who may look only."""
        given = login_of(request).encode()
        return bool(self._viewer) and hmac.compare_digest(given, self._viewer.encode())

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

        def guarded(handler: Any) -> None:
            reads = handler.request.path.endswith(_READS)
            if (
                handler.request.method not in _SAFE
                and not reads
                and self.is_viewer(handler.request)
            ):
                raise tornado.web.HTTPError(403, "this login may look, and not act")
            check(handler)

        guarded.is_guarded = True  # type: ignore[attr-defined]
        BaseHandler.check_xsrf_cookie = guarded
