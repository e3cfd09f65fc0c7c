"""What is done about Flower before it starts: `celery -A turnmill_worker.app flower` too."""

from collections.abc import Mapping, Sequence

from turnmill.domain.errors import UnsafeSetting
from turnmill.settings import Profile, Settings

_OURS = "TURNMILL_FLOWER_AUTH"
#: Options and variables of Flower's own that ask for a login, or may.
_THEIRS = frozenset(
    {"--basic-auth", "--basic_auth", "--auth", "--conf"}
    | {"FLOWER_BASIC_AUTH", "FLOWER_AUTH", "FLOWER_CONF"}
)


def guard_flower(settings: Settings, *, argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Give Flower the login of TURNMILL_FLOWER_AUTH, and close what it shows to everybody.

    Nothing is done for another program. Raises UnsafeSetting when the production profile would
    run it without any login.
    """
    if "flower" not in argv[1:]:
        return
    login = environ.get(_OURS)
    if not login and settings.profile is Profile.PRODUCTION and not _has_login(argv, environ):
        raise UnsafeSetting("Flower would be open to everybody", hint=f"set {_OURS}=user:password")
    _close(login)


def _has_login(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    given = {argument.partition("=")[0] for argument in argv}.union(environ)
    return not given.isdisjoint(_THEIRS)


def _close(login: str | None) -> None:
    """Ask for the login; before /metrics too, which Flower by itself shows to everybody."""
    from flower.options import default_options  # noqa: PLC0415  only its own process needs it
    from flower.views.monitor import Metrics  # noqa: PLC0415
    from tornado.web import authenticated  # noqa: PLC0415

    if login:
        # Not FLOWER_BASIC_AUTH: Flower takes what follows a comma for another login.
        default_options.basic_auth = [login]
    Metrics.get = authenticated(Metrics.get)
