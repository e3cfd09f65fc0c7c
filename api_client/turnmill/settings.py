"""Settings: environment variables named TURNMILL_*, and the two profiles."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from turnmill.domain.errors import InvalidSetting, UnsafeSetting

_TLS_SCHEMES = frozenset({"rediss", "amqps"})
_REPLY_BYTES_MAX = 16 * 2**20
_MOST_REPLY = 256_000_000
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
#: A JSON value of Postgres holds 256 MB, and a statement carries more than one text.
_MOST_TEXT = 64_000_000
_SSL_MODES = frozenset({"require", "verify-ca", "verify-full"})


class Profile(StrEnum):
    """Which mistakes are forgiven."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"  #: refuses what is unsafe, naming the setting to change


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that Turnmill reads from its environment. Provider keys are not here: see the worker."""

    profile: Profile = Profile.DEVELOPMENT
    database_url: str = field(default="", repr=False)
    listen_url: str = field(
        default="", repr=False
    )  #: of the same database, past a pooler: where LISTEN works
    schema: str = "turnmill"  #: of Postgres, that the tables stand in
    broker_url: str = field(default="", repr=False)
    home: Path = Path(".turnmill")
    alive_file: Path | None = None  #: a worker touches it every five seconds
    lease: timedelta = timedelta(seconds=15)
    concurrency: int = 1000  #: turns that one worker process holds at once
    max_unfinished_per_user: int | None = 100_000
    max_unfinished: int | None = None
    hints_max: int = 1000  #: a client publishes nothing while a lane's queue is longer than this
    max_text_bytes: int = 1_000_000  #: a message larger than this is refused
    grace: timedelta = timedelta(seconds=6)  #: how long a worker told to stop lets calls finish
    turn_timeout: timedelta = timedelta(minutes=10)  #: of one attempt, whatever the provider says
    max_reply_bytes: int = _REPLY_BYTES_MAX  #: a vendor's answer larger than this is refused
    background_timeout: timedelta = timedelta(days=1)  #: for how long work there is looked up
    layers: str = ""  #: of a worker, around its providers: see docs/middleware.md
    observers: str = ""  #: of a worker, told of every event: see docs/events.md
    observer_timeout: timedelta = timedelta(seconds=10)  #: of one call to an observer
    metrics_port: int | None = None  #: where a worker serves its metrics; None: nowhere
    metrics_host: str = "127.0.0.1"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read TURNMILL_* and check them; raises InvalidSetting or UnsafeSetting."""
        env = os.environ if environ is None else environ
        settings = cls(
            profile=_profile(env.get("TURNMILL_PROFILE", "development")),
            database_url=env.get("TURNMILL_DATABASE_URL", ""),
            listen_url=env.get("TURNMILL_LISTEN_URL", ""),
            schema=_schema(env.get("TURNMILL_SCHEMA") or "turnmill"),
            broker_url=env.get("TURNMILL_BROKER_URL", ""),
            home=Path(env.get("TURNMILL_HOME", ".turnmill")),
            alive_file=Path(file) if (file := env.get("TURNMILL_ALIVE_FILE")) else None,
            lease=_seconds(env, "TURNMILL_LEASE", default=15.0, least=0.5),
            concurrency=_count(env, "TURNMILL_CONCURRENCY", 1000, most=100_000),
            max_unfinished_per_user=_bound(env, "TURNMILL_MAX_UNFINISHED_PER_USER", 100_000),
            max_unfinished=_bound(env, "TURNMILL_MAX_UNFINISHED", None),
            hints_max=_count(env, "TURNMILL_HINTS_MAX", 1000, most=1_000_000),
            max_text_bytes=_count(env, "TURNMILL_MAX_TEXT_BYTES", 1_000_000, most=_MOST_TEXT),
            grace=_seconds(env, "TURNMILL_GRACE", default=6.0, least=0.0),
            turn_timeout=_seconds(env, "TURNMILL_TURN_TIMEOUT", default=600.0, least=0.1),
            max_reply_bytes=max_reply_bytes(env),
            background_timeout=_seconds(
                env, "TURNMILL_BACKGROUND_TIMEOUT", default=86_400.0, least=1.0, most=30 * 86_400
            ),
            layers=env.get("TURNMILL_LAYERS", ""),
            observers=env.get("TURNMILL_OBSERVERS", ""),
            observer_timeout=_seconds(
                env, "TURNMILL_OBSERVER_TIMEOUT", default=10.0, least=0.1, most=600
            ),
            metrics_port=_port(env, "TURNMILL_METRICS_PORT"),
            metrics_host=env.get("TURNMILL_METRICS_HOST") or "127.0.0.1",
        )
        settings.check()
        return settings

    def check(self) -> None:
        """Raise UnsafeSetting when the production profile forbids a value."""
        if self.profile is not Profile.PRODUCTION:
            return
        for variable, url in (
            ("TURNMILL_DATABASE_URL", self.database_url),
            ("TURNMILL_LISTEN_URL", self.listen_url),
            ("TURNMILL_BROKER_URL", self.broker_url),
        ):
            refuse_plaintext(variable, url)


def max_reply_bytes(environ: Mapping[str, str] | None = None) -> int:
    """Return how large a vendor's answer may be; providers read it as they read their keys."""
    env = os.environ if environ is None else environ
    return _count(env, "TURNMILL_MAX_REPLY_BYTES", _REPLY_BYTES_MAX, most=_MOST_REPLY)


def refuse_plaintext(variable: str, url: str) -> None:
    """Raise UnsafeSetting when `url` leads to another host without TLS."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return  # whoever connects says what is wrong with it
    if all(_is_here(host) for host in _hosts(parts)) or _is_encrypted(parts):
        return
    raise UnsafeSetting(
        f"{variable} leads to another host without TLS",
        hint=f"use rediss:// or ?sslmode=verify-full in {variable},"
        " or TURNMILL_PROFILE=development",
    )


def _hosts(parts: SplitResult) -> list[str]:
    """Return all hosts that a URL names: libpq takes several, and takes them as parameters too."""
    places = parts.netloc.rpartition("@")[2].split(",")
    found = [
        place.partition("]")[0].strip("[") if "]" in place else place.partition(":")[0]
        for place in places
    ]
    query = parse_qs(parts.query)
    for name in ("host", "hostaddr"):
        found += [host for value in query.get(name, ()) for host in value.split(",")]
    return [host for host in found if host]


def _is_here(host: str) -> bool:
    if host == "localhost" or host.startswith("/"):  # a folder of sockets
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_encrypted(parts: SplitResult) -> bool:
    if parts.scheme.startswith("postgres"):
        return parse_qs(parts.query).get("sslmode", [""])[-1] in _SSL_MODES
    return parts.scheme in _TLS_SCHEMES


def _profile(value: str) -> Profile:
    try:
        return Profile(value)
    except ValueError:
        raise InvalidSetting(
            "TURNMILL_PROFILE is not a profile", hint="development or production"
        ) from None


def _schema(value: str) -> str:
    if not _SCHEMA.fullmatch(value) or value.startswith("pg_"):
        raise InvalidSetting(
            "TURNMILL_SCHEMA cannot be a schema's name",
            hint="lower-case letters, digits and _, at most 63, such as turnmill",
        )
    return value


def _seconds(
    env: Mapping[str, str], name: str, *, default: float, least: float, most: float = 86_400
) -> timedelta:
    try:
        seconds = float(env.get(name) or default)
    except ValueError:
        raise InvalidSetting(f"{name} is not a number", hint="seconds, such as 15") from None
    if not least <= seconds <= most:
        raise InvalidSetting(f"{name} is out of range", hint=f"{least} to {most} seconds")
    return timedelta(seconds=seconds)


def _count(env: Mapping[str, str], name: str, default: int, *, most: int) -> int:
    bound = _bound(env, name, default)
    if bound is None or bound > most:
        raise InvalidSetting(f"{name} is out of range", hint=f"a whole number from 1 to {most}")
    return bound


def _port(env: Mapping[str, str], name: str) -> int | None:
    return _count(env, name, 1, most=65_535) if env.get(name) else None


def _bound(env: Mapping[str, str], name: str, default: int | None) -> int | None:
    value = env.get(name)
    if not value:
        return default
    if value.lower() == "none":
        return None
    try:
        number = int(value)
    except ValueError:
        raise InvalidSetting(f"{name} is not a whole number", hint="from 1, or none") from None
    if number < 1:
        raise InvalidSetting(f"{name} is out of range", hint="a whole number from 1, or none")
    return number
