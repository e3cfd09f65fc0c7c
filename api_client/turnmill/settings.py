"""Settings: environment variables named TURNMILL_*, and the two profiles."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from turnmill.domain.errors import InvalidSetting, UnsafeSetting
from turnmill.setting_values import (
    bound,
    count,
    days,
    networks,
    port,
    seconds,
    with_unix_line_ends,
)

if TYPE_CHECKING:
    from turnmill.tools import Tool

#: What vendors' clients read, and send everything to.
_BASE_URLS = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL")
#: In production, the mock answers where this says yes, and obeys scripts of faults at `faults`.
ALLOW_MOCK = "TURNMILL_ALLOW_MOCK"
#: In TURNMILL_STREAM_URL: what is said leaves the database for nobody who watches.
NO_STREAMS = "off"
ON, OFF = "on", "off"  #: in TURNMILL_ENCRYPTION and its like
_MOCKS = ("TURNMILL_MOCK_LATENCY", "TURNMILL_MOCK_LEDGER", "TURNMILL_MOCK_SEED")
_REPLY_BYTES_MAX = 16 * 2**20
_MOST_REPLY = 256_000_000
_BATCH_WINDOW = 2_000_000
_MOST_WINDOW = 10**12
_BATCH_POLL = 60
_MOST_POLL = 3_600
_MOST_FILE = 2_000_000_000
_MOST_FILES = 10**15
#: Of whatever role: all of them are dialled by somebody.
_OF_A_DATABASE = re.compile(r"TURNMILL_[A-Z]+_URL(?<!BROKER_URL)(?<!STREAM_URL)")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_MOST_TAGS = 8
_LONGEST_TAG = 100
_LONGEST_ACTOR = 200
#: A JSON value of Postgres holds 256 MB, and a statement carries more than one text.
_MOST_TEXT = 64_000_000


class Profile(StrEnum):
    """Which mistakes are forgiven."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"  #: refuses what is unsafe, naming the setting to change


class RemoteControl(StrEnum):
    """Which of Celery's remote commands a worker obeys."""

    LOOKING = "looking"  #: what inspects, and `revoke`
    ALL = "all"  #: shutdown, pools, rates and queues, too: whoever can write to the broker commands


class Reads(StrEnum):
    """Whose reading of content is written down."""

    OFF = "off"
    CLI = "cli"  #: the commands'
    ALL = "all"  #: every client's, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that Turnmill reads from its environment. Provider keys are not here: see the worker."""

    profile: Profile = Profile.DEVELOPMENT
    database_url: str = field(default="", repr=False)
    #: of the same database, past a pooler: where LISTEN works
    listen_url: str = field(default="", repr=False)
    schema: str = "turnmill"  #: of Postgres, that the tables stand in
    broker_url: str = field(default="", repr=False)
    #: of the Redis that streams are carried by; empty: the broker, if it is one; off: by nothing
    stream_url: str = field(default="", repr=False)
    stream_ttl: timedelta = timedelta(minutes=10)  #: for how long it keeps them
    home: Path = Path(".turnmill")
    files_url: str = field(default="", repr=False)  #: of attachments; empty: `files` in the home
    max_file_bytes: int = 32_000_000  #: a file larger than this is refused
    files_quota: int = 1_000_000_000  #: bytes of all files of one user
    #: for how long backups of the database are kept; None: nobody has said
    backups_kept: timedelta | None = None
    files_grace: timedelta = timedelta(days=1)  #: after which a file that no message holds goes
    #: networks that files may be fetched from by URL, beside all that is public
    fetch_from: tuple[str, ...] = ()
    alive_file: Path | None = None  #: where a worker writes how it does
    lease: timedelta = timedelta(seconds=15)
    concurrency: int = 1000  #: turns that one worker process holds at once
    max_unfinished_per_user: int | None = 100_000
    max_unfinished: int | None = None
    hints_max: int = 1000  #: a client publishes nothing while a lane's queue is longer than this
    max_text_bytes: int = 1_000_000  #: a message larger than this is refused
    grace: timedelta = timedelta(seconds=25)  #: how long a worker told to stop lets calls finish
    turn_timeout: timedelta = timedelta(minutes=10)  #: of one attempt, whatever the provider says
    max_reply_bytes: int = _REPLY_BYTES_MAX  #: a vendor's answer larger than this is refused
    background_timeout: timedelta = timedelta(days=1)  #: for how long work there is looked up
    layers: str = ""  #: of a worker, around its providers: see docs/middleware.md
    defaults: Path | None = None  #: of a worker: a file of parameters by model
    prices: Path | None = None  #: of a worker: a file of prices of your own
    tags: tuple[str, ...] = ()  #: keys of metadata that budgets may go by
    #: of a worker, for models to call: see docs/tools.md; or, in one process, the tools themselves
    tools: "str | tuple[Tool[..., Any], ...]" = ""
    mcp: Path | None = None  #: of a worker: a file of MCP servers
    observers: str = ""  #: of a worker, told of every event: see docs/events.md
    observer_timeout: timedelta = timedelta(seconds=10)  #: of one call to an observer
    webhook_allow: tuple[str, ...] = ()  #: networks that webhooks may reach, beside public ones
    metrics_port: int | None = None  #: where a worker serves its metrics; None: nowhere
    metrics_host: str = "127.0.0.1"
    remote_control: RemoteControl = RemoteControl.ALL
    encryption: str = ""  #: on, or off by name; empty: on where keys are named
    encryption_keys: str = field(default="", repr=False)  #: a keyring: a file's path, or its lines
    encrypt_metadata: bool = False  #: too, but for `tags` and `analytics_tag`
    encrypt_settings: bool = False  #: of sessions, too, but for what SQL goes by
    analytics_tag: str = ""  #: the key of sessions' metadata that figures go by
    key_store: str = field(default="", repr=False)  #: where wrapped data keys stand
    key_backups: timedelta | None = None  #: how long backups of the key store are kept; None: none
    kms: str = ""  #: who wraps data keys, as module:name; empty: the keyring
    actor: str = ""  #: who acts, for the audit log; empty: the user of the operating system
    audit_reads: Reads = Reads.CLI  #: whose reading of content is written down there
    by_hand: bool = False  #: an operator does what is done here: so are his retries and the like

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read TURNMILL_* and check them; raises InvalidSetting or UnsafeSetting."""
        env = with_unix_line_ends(os.environ if environ is None else environ)
        profile = _profile(env.get("TURNMILL_PROFILE", "development"))
        settings = cls(
            profile=profile,
            database_url=env.get("TURNMILL_DATABASE_URL", ""),
            listen_url=env.get("TURNMILL_LISTEN_URL", ""),
            schema=_schema(env.get("TURNMILL_SCHEMA") or "turnmill"),
            broker_url=env.get("TURNMILL_BROKER_URL", ""),
            **_of_streams(env),
            home=Path(env.get("TURNMILL_HOME", ".turnmill")),
            **_of_files(env),
            alive_file=Path(file) if (file := env.get("TURNMILL_ALIVE_FILE")) else None,
            lease=seconds(env, "TURNMILL_LEASE", default=15.0, least=0.5),
            concurrency=count(env, "TURNMILL_CONCURRENCY", 1000, most=100_000),
            max_unfinished_per_user=bound(env, "TURNMILL_MAX_UNFINISHED_PER_USER", 100_000),
            max_unfinished=bound(env, "TURNMILL_MAX_UNFINISHED", None),
            hints_max=count(env, "TURNMILL_HINTS_MAX", 1000, most=1_000_000),
            max_text_bytes=count(env, "TURNMILL_MAX_TEXT_BYTES", 1_000_000, most=_MOST_TEXT),
            grace=seconds(env, "TURNMILL_GRACE", default=25.0, least=0.0),
            turn_timeout=seconds(env, "TURNMILL_TURN_TIMEOUT", default=600.0, least=0.1),
            max_reply_bytes=max_reply_bytes(env),
            background_timeout=seconds(
                env, "TURNMILL_BACKGROUND_TIMEOUT", default=86_400.0, least=1.0, most=30 * 86_400
            ),
            layers=env.get("TURNMILL_LAYERS", ""),
            defaults=Path(file) if (file := env.get("TURNMILL_DEFAULTS")) else None,
            prices=Path(file) if (file := env.get("TURNMILL_PRICES")) else None,
            tags=_names(env.get("TURNMILL_TAGS", "")),
            tools=env.get("TURNMILL_TOOLS", ""),
            mcp=Path(file) if (file := env.get("TURNMILL_MCP")) else None,
            **_of_observers(env),
            **_of_metrics(env),
            remote_control=_remote_control(env.get("TURNMILL_REMOTE_CONTROL"), profile),
            **_of_encryption(env),
            analytics_tag=env.get("TURNMILL_ANALYTICS_TAG", "").strip(),
            actor=_actor(env.get("TURNMILL_ACTOR", "")),
            audit_reads=_reads(env.get("TURNMILL_AUDIT_READS") or Reads.CLI),
        )
        settings.check(env)
        return settings

    @property
    def is_encrypted(self) -> bool:
        """Tell whether content is encrypted where it is stored."""
        return self.encryption == ON or (
            not self.encryption and bool(self.encryption_keys or self.kms)
        )

    def check(self, environ: Mapping[str, str] | None = None) -> None:
        """Raise UnsafeSetting when the production profile forbids a value.

        Judged is what would really be dialled: what libpq takes from its own variables, services
        and files has its say.
        """
        for refused in unsafe_settings(self, os.environ if environ is None else environ):
            raise refused


def unsafe_settings(settings: Settings, environ: Mapping[str, str]) -> Iterator[UnsafeSetting]:
    """Yield everything that the production profile forbids, one error for each setting."""
    if settings.profile is not Profile.PRODUCTION:
        return
    from turnmill.connections import rules  # noqa: PLC0415  development needs none of it

    of_others = {name: url for name, url in environ.items() if _OF_A_DATABASE.fullmatch(name)}
    ours = {
        "TURNMILL_DATABASE_URL": settings.database_url,
        "TURNMILL_LISTEN_URL": settings.listen_url,
    }
    if settings.key_store.startswith("postgres"):
        ours["TURNMILL_KEY_STORE"] = settings.key_store
    for variable, url in (of_others | ours).items():
        yield from rules.unsafe(rules.of_database(variable, url, environ))
    if settings.broker_url:
        yield from rules.unsafe(rules.of_broker("TURNMILL_BROKER_URL", settings.broker_url))
    if settings.stream_url not in ("", NO_STREAMS):
        yield from rules.unsafe(rules.of_stream("TURNMILL_STREAM_URL", settings.stream_url))
    yield from rules.unsafe(rules.of_bucket(settings.files_url, environ))
    for variable in _BASE_URLS:
        if base_url := environ.get(variable):
            yield from rules.unsafe(rules.of_http(variable, base_url))
    yield from _unsafe_mocks(environ)
    yield from _unencrypted(settings)


def _unencrypted(settings: Settings) -> Iterator[UnsafeSetting]:
    if not settings.is_encrypted and settings.encryption != OFF:
        yield UnsafeSetting(
            "TURNMILL_ENCRYPTION_KEYS names no keys: what users say is stored as it is",
            hint=f"TURNMILL_ENCRYPTION_KEYS, or decline it: TURNMILL_ENCRYPTION={OFF}",
        )


def max_reply_bytes(environ: Mapping[str, str] | None = None) -> int:
    """Return how large a vendor's answer may be; providers read it as they read their keys."""
    env = os.environ if environ is None else environ
    return count(env, "TURNMILL_MAX_REPLY_BYTES", _REPLY_BYTES_MAX, most=_MOST_REPLY)


def batch_window() -> int:
    """Return how many tokens may wait in a vendor's batches, of one model."""
    return count(os.environ, "TURNMILL_BATCH_WINDOW", _BATCH_WINDOW, most=_MOST_WINDOW)


def batch_poll() -> timedelta:
    """Return how often a vendor is asked for a young batch; an old one more rarely."""
    seconds = count(os.environ, "TURNMILL_BATCH_POLL", _BATCH_POLL, most=_MOST_POLL)
    return timedelta(seconds=seconds)


def mock_allowed(environ: Mapping[str, str], *, faults: bool = False) -> bool:
    """Tell whether the mock may answer here: in production when that is asked for by name."""
    asked = environ.get(ALLOW_MOCK, "")
    if asked not in ("", "yes", "faults"):
        raise InvalidSetting(f"{ALLOW_MOCK} cannot be understood", hint="yes, or faults")
    is_production = environ.get("TURNMILL_PROFILE") == Profile.PRODUCTION
    return not is_production or asked == "faults" or (asked == "yes" and not faults)


def _unsafe_mocks(environ: Mapping[str, str]) -> Iterator[UnsafeSetting]:
    """Yield what sets the mock up: what it says would pass for replies."""
    if mock_allowed(environ):
        return
    for variable in _MOCKS:
        if environ.get(variable):
            yield UnsafeSetting(
                f"{variable} sets up the mock provider, which answers without a vendor",
                hint=f"unset it, or {ALLOW_MOCK}=yes",
            )


def _of_streams(env: Mapping[str, str]) -> dict[str, Any]:
    """Return what is set of streams: where their copies are, and for how long."""
    return {
        "stream_url": _stream_url(env.get("TURNMILL_STREAM_URL", "")),
        "stream_ttl": seconds(env, "TURNMILL_STREAM_TTL", default=600.0, least=1.0),
    }


def _of_metrics(env: Mapping[str, str]) -> dict[str, Any]:
    """Return what is set of metrics: where they are served, if at all."""
    return {
        "metrics_port": port(env, "TURNMILL_METRICS_PORT"),
        "metrics_host": env.get("TURNMILL_METRICS_HOST") or "127.0.0.1",
    }


def _of_files(env: Mapping[str, str]) -> dict[str, Any]:
    """Return what is set of files: where they are, how much of them, and from where."""
    return {
        "files_url": env.get("TURNMILL_FILES_URL", ""),
        "max_file_bytes": count(env, "TURNMILL_MAX_FILE_BYTES", 32_000_000, most=_MOST_FILE),
        "files_quota": count(env, "TURNMILL_FILES_QUOTA", 1_000_000_000, most=_MOST_FILES),
        "files_grace": seconds(
            env, "TURNMILL_FILES_GRACE", default=86_400.0, least=1.0, most=365 * 86_400
        ),
        "backups_kept": days(env, "TURNMILL_KEEP_BACKUPS_DAYS"),
        "fetch_from": networks(env, "TURNMILL_FETCH_FROM"),
    }


def _of_observers(env: Mapping[str, str]) -> dict[str, Any]:
    """Return what is set of those who are told what happens."""
    return {
        "observers": env.get("TURNMILL_OBSERVERS", ""),
        "observer_timeout": seconds(
            env, "TURNMILL_OBSERVER_TIMEOUT", default=10.0, least=0.1, most=600
        ),
        "webhook_allow": networks(env, "TURNMILL_WEBHOOK_ALLOW"),
    }


def _of_encryption(env: Mapping[str, str]) -> dict[str, Any]:
    """Return what is set of keys, and of what is sealed with them."""
    return {
        "encryption": _encryption(env, "TURNMILL_ENCRYPTION"),
        "encryption_keys": env.get("TURNMILL_ENCRYPTION_KEYS", ""),
        "encrypt_metadata": _encryption(env, "TURNMILL_ENCRYPT_METADATA") == ON,
        "encrypt_settings": _encryption(env, "TURNMILL_ENCRYPT_SETTINGS") == ON,
        "key_store": env.get("TURNMILL_KEY_STORE", ""),
        "key_backups": days(env, "TURNMILL_KEY_BACKUP_DAYS"),
        "kms": env.get("TURNMILL_KMS", ""),
    }


def _profile(value: str) -> Profile:
    try:
        return Profile(value)
    except ValueError:
        raise InvalidSetting(
            "TURNMILL_PROFILE is not a profile", hint="development or production"
        ) from None


def _remote_control(value: str | None, profile: Profile) -> RemoteControl:
    if not value:
        is_careful = profile is Profile.PRODUCTION
        return RemoteControl.LOOKING if is_careful else RemoteControl.ALL
    try:
        return RemoteControl(value)
    except ValueError:
        raise InvalidSetting(
            "TURNMILL_REMOTE_CONTROL is out of range", hint="looking or all"
        ) from None


def _encryption(env: Mapping[str, str], name: str) -> str:
    if (value := env.get(name, "")) not in ("", ON, OFF):
        raise InvalidSetting(f"{name} cannot be understood", hint=f"{ON}, or {OFF}")
    return value


def _actor(value: str) -> str:
    if len(value) > _LONGEST_ACTOR or not value.isprintable():
        raise InvalidSetting(
            "TURNMILL_ACTOR cannot be a name",
            hint=f"up to {_LONGEST_ACTOR} characters that can be printed",
        )
    return value.strip()


def _reads(value: str) -> Reads:
    try:
        return Reads(value)
    except ValueError:
        raise InvalidSetting(
            "TURNMILL_AUDIT_READS cannot be understood", hint=", ".join(Reads)
        ) from None


def _schema(value: str) -> str:
    if not _SCHEMA.fullmatch(value) or value.startswith("pg_"):
        raise InvalidSetting(
            "TURNMILL_SCHEMA cannot be a schema's name",
            hint="lower-case letters, digits and _, at most 63, such as turnmill",
        )
    return value


def _names(value: str) -> tuple[str, ...]:
    """Return names that are listed with commas between them, each once."""
    names = tuple(dict.fromkeys(filter(None, map(str.strip, value.split(",")))))
    if len(names) > _MOST_TAGS or any(len(one) > _LONGEST_TAG for one in names):
        raise InvalidSetting(
            "TURNMILL_TAGS is out of range",
            hint=f"up to {_MOST_TAGS} keys of metadata, such as team,project",
        )
    return names


def _stream_url(value: str) -> str:
    """Return the URL; what it means is read by whoever dials it."""
    return NO_STREAMS if value.strip().lower() == NO_STREAMS else value
