"""What is done about Flower before it listens, by whatever way it was started and set up."""

import logging
import sys
from collections.abc import Mapping
from functools import wraps
from typing import Any

from turnmill.connections import rules
from turnmill.domain.errors import UnsafeSetting
from turnmill.settings import Profile, Settings
from turnmill_worker.celery.logs import guard

#: Who may look and act.
AUTH = "TURNMILL_FLOWER_AUTH"
#: Who may look, and do nothing.
VIEWER_AUTH = "TURNMILL_FLOWER_VIEWER_AUTH"


def guard_flower(settings: Settings, *, environ: Mapping[str, str]) -> None:
    """Have Flower look at what it is about to show to whom, if this process has loaded Flower.

    Called when Celery loads an app's modules, as every Flower has it do before it listens: a
    command line, FLOWER_* variables, a flowerconfig.py and a program of somebody's own are known
    by then, by what they came to.
    """
    loaded = sys.modules.get("flower.app")
    if loaded is None or getattr(loaded.Flower.start_http_server, "is_guarded", False):
        return
    listen = loaded.Flower.start_http_server

    @wraps(listen)
    def guarded(flower: Any) -> Any:
        _set_up(flower.options, settings, environ)
        _wake(flower)
        _add_tab(flower, settings, environ)
        guard(logging.getLogger())  # of names in events, which anybody may have sent
        try:
            return listen(flower)
        except OSError as error:  # its port is taken, or it is no address of this machine
            raise SystemExit(f"turnmill: {_cannot_listen(flower.options, error)}") from None

    guarded.is_guarded = True  # type: ignore[attr-defined]
    loaded.Flower.start_http_server = guarded


def _set_up(options: Any, settings: Settings, environ: Mapping[str, str]) -> None:
    logins = [environ[name] for name in (AUTH, VIEWER_AUTH) if environ.get(name)]
    if environ.get(AUTH):
        # Not FLOWER_BASIC_AUTH: Flower takes what follows a comma for another login.
        options.basic_auth = logins
    elif logins:
        # Whoever else was let in may act; the viewer beside them may not.
        options.basic_auth = [*(options.basic_auth or ()), *logins]
    if settings.profile is Profile.PRODUCTION:
        try:
            _refuse_unsafe(options)
        except UnsafeSetting as error:
            raise SystemExit(f"turnmill: {error}\n  hint: {error.hint}") from None
    from turnmill_worker.flower.queues import show_the_right_queues  # noqa: PLC0415  Flower's own

    show_the_right_queues(settings.broker_url)


def _wake(flower: Any) -> None:
    from turnmill_worker.celery.attentive import listen_at_once  # noqa: PLC0415  Flower's, too

    listen_at_once(flower)


def _add_tab(flower: Any, settings: Settings, environ: Mapping[str, str]) -> None:
    from turnmill_worker.flower.tab import add_tab  # noqa: PLC0415  only Flower's process needs it

    add_tab(flower, settings, environ, viewer_login=environ.get(VIEWER_AUTH, ""))


def _refuse_unsafe(options: Any) -> None:
    if not options.basic_auth and not options.auth:
        raise UnsafeSetting("Flower would be open to everybody", hint=f"set {AUTH}=user:password")
    if any(map(_is_guessed, options.basic_auth or ())):
        raise UnsafeSetting(
            "Flower's login is one that everybody tries first", hint=f"set {AUTH}=user:password"
        )
    if options.broker_api:
        rules.refuse_unsafe(rules.of_http("--broker-api", options.broker_api))


def _cannot_listen(options: Any, error: OSError) -> str:
    where = options.unix_socket or f"{options.address or '*'}:{options.port}"
    hint = "another Flower may run there: stop it, or choose another --port, or --address"
    return f"Flower cannot listen at {where}: {error.strerror}\n  hint: {hint}"


def _is_guessed(login: str) -> bool:
    user, _, password = login.partition(":")
    return not password or rules.is_guessed(user, password)
