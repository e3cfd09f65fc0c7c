"""What each part of the stack is told by its environment: no more than it needs."""

from collections.abc import Mapping

from turnmill.role_urls import VARIABLES as OTHER_ROLES
from turnmill.role_urls import VIEWER

#: Where set, Celery and Flower obey these more than what the stack tells them.
OVERRIDES = (
    "CELERY_BROKER_URL",
    "CELERY_BROKER_READ_URL",
    "CELERY_BROKER_WRITE_URL",
    "CELERY_RESULT_BACKEND",
    "FLOWER_BASIC_AUTH",
    "FLOWER_UNAUTHENTICATED_API",
)
ENCRYPTION = "TURNMILL_ENCRYPTION"
FLOWER_AUTH = "TURNMILL_FLOWER_AUTH"
FLOWER_VIEWER_AUTH = "TURNMILL_FLOWER_VIEWER_AUTH"

#: How programs are found and run, and in which language and time they speak.
_PLAIN = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER", "VIRTUAL_ENV"}
)
_PLAIN_PREFIXES = ("LC_", "LD_LIBRARY_PATH", "DYLD_", "PYTHON", "SSL_CERT_")
_OF_CELERY = frozenset(
    {"TURNMILL_BROKER_URL", "TURNMILL_HOME", "TURNMILL_PROFILE", "TURNMILL_SCHEMA", ENCRYPTION}
)
_OF_BEAT = _OF_CELERY | {
    "TURNMILL_IDLE_DAYS",
    "TURNMILL_KEEP_ARCHIVED_DAYS",
    "TURNMILL_KEEP_AUDIT_DAYS",
    "TURNMILL_KEEP_BATCHES_DAYS",
    "TURNMILL_KEEP_CONTENT_DAYS",
}
# It reads as a role that sees no content, and may ask for retries and cancels only.
_OF_FLOWER = _OF_CELERY | {FLOWER_AUTH, FLOWER_VIEWER_AUTH, VIEWER}


def plain(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what any program gets: nothing of ours, no key of a provider, no proxy."""
    return _only(environ, _PLAIN, _PLAIN_PREFIXES)


def of_beat(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what beat gets: the broker and the schedule, and no way to the database."""
    found = _only(environ, _PLAIN | _OF_BEAT, (*_PLAIN_PREFIXES, "TURNMILL_SCHEDULE_"))
    return found | _whether_encrypted(environ)


def of_flower(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what Flower gets: broker, schedule, logins, options, and a viewer's database."""
    prefixes = (*_PLAIN_PREFIXES, "FLOWER_", "TURNMILL_SCHEDULE_")
    found = _only(environ, _PLAIN | _OF_FLOWER, prefixes) | _whether_encrypted(environ)
    return {name: value for name, value in found.items() if name not in OVERRIDES}


def of_worker(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a worker gets: all, less what the owner of the tables and Flower are told."""
    withheld = {*OVERRIDES, *OTHER_ROLES, FLOWER_AUTH, FLOWER_VIEWER_AUTH}
    return {name: value for name, value in environ.items() if name not in withheld}


def _whether_encrypted(environ: Mapping[str, str]) -> dict[str, str]:
    """Tell that content is encrypted, and by no means by what."""
    is_keyed = bool(environ.get("TURNMILL_ENCRYPTION_KEYS") or environ.get("TURNMILL_KMS"))
    return {ENCRYPTION: "on"} if is_keyed and not environ.get(ENCRYPTION) else {}


def _only(
    environ: Mapping[str, str], names: frozenset[str], prefixes: tuple[str, ...]
) -> dict[str, str]:
    return {
        name: value for name, value in environ.items() if name in names or name.startswith(prefixes)
    }
