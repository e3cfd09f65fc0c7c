"""Every error that Turnmill raises, each with a stable `code` and a `hint` at what to do.

TurnmillError
├── ConfigurationError
│   ├── InvalidSetting          a variable or URL cannot be understood
│   ├── UnsafeSetting           the production profile refuses it
│   ├── MissingExtra            a part is not installed
│   └── UnsupportedByStore      SQLite cannot promise this
├── StoreError
│   ├── StoreUnavailable        the database cannot be reached, or not serve now: try again
│   │   ├── StoreReadOnly       it takes no writes now
│   │   └── StoreFull           no disk, memory or connection is left there
│   ├── AccessDenied            password, privilege or name: somebody has to change something
│   ├── SchemaOutOfDate         migrations have not been run
│   ├── SessionBusy             another transaction is in the way: try again
│   ├── Unstorable              the tables do not take this value, now or later
│   ├── WrongIsolation          the caller's transaction has a frozen snapshot
│   └── UnreadableRow           a row holds what nobody expects
├── InvalidInput                (also a ValueError)
│   ├── InvalidText             empty, too large, NUL, lone surrogate
│   ├── UnsupportedPart         a kind of content that no provider here can be sent
│   └── InvalidBatchFile        `problems`: number of the line, and what is wrong with it
├── NotFound                    (also a LookupError)
│   ├── SessionNotFound
│   ├── TurnNotFound
│   └── BatchNotFound
├── Conflict
│   ├── SessionArchived
│   ├── IdempotencyConflict     the key stands for other content
│   └── MoveRefused             the state of the turn or session does not allow it
├── QueueFull                   `retry_after`
├── BegunBeforeFork             it belongs to the parent process
├── NoReply
│   ├── TurnFailed              permanent error; `error_code`
│   │   └── TurnDead            attempts or losses exhausted
│   ├── TurnCancelled
│   └── TurnExpired
├── TurnTimeout                 (also a TimeoutError) the turn goes on
│   └── BatchTimeout            so does the batch
└── ProviderError               raised by providers, never by a client
    ├── NotSent                 nothing was executed: send again
    │   ├── Unreachable
    │   ├── RateLimited
    │   ├── Overloaded
    │   └── ThreadLocked
    ├── MaybeSent               it may have been executed: check, then adopt or send again
    ├── ThreadLost              the provider no longer has the thread: rebuild it once
    └── Rejected                permanent
        ├── ProviderUnknown
        └── KeyMissing
"""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar


def _rebuild(cls: "type[TurnmillError]", args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class TurnmillError(Exception):
    """The root of all errors raised on purpose."""

    code: ClassVar[str] = "turnmill_error"
    hint: str = ""
    index: int | None = None  #: which message, where several were sent in one call

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        if hint is not None:
            self.hint = hint

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ConfigurationError(TurnmillError):
    """Something is set up wrongly."""

    code = "configuration_error"


class InvalidSetting(ConfigurationError):
    """A setting cannot be understood."""

    code = "invalid_setting"


class UnsafeSetting(ConfigurationError):
    """The production profile refuses this setting."""

    code = "unsafe_setting"


class MissingExtra(ConfigurationError):
    """A part of Turnmill is not installed."""

    code = "missing_extra"


class UnsupportedByStore(ConfigurationError):
    """This store cannot promise what was asked."""

    code = "unsupported_by_store"
    hint = "use a postgresql:// URL; SQLite and memory serve a single process"


class StoreError(TurnmillError):
    """The store could not do it."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """The database cannot be reached."""

    code = "store_unavailable"
    hint = "check TURNMILL_DATABASE_URL and that the server runs; `turnmill doctor` tells more"


class StoreReadOnly(StoreUnavailable):
    """The database takes no writes now."""

    code = "store_read_only"
    hint = "a stand-by, or default_transaction_read_only: use the primary, or switch it off"


class StoreFull(StoreUnavailable):
    """The database has nothing left of what this needs."""

    code = "store_full"
    hint = "make room on the server; `turnmill doctor` tells more"


class AccessDenied(StoreError):
    """The database does not let us in, or not do this."""

    code = "access_denied"
    hint = "check TURNMILL_DATABASE_URL, and what the role may do"


class SchemaOutOfDate(StoreError):
    """The database has not been migrated to this version."""

    code = "schema_out_of_date"
    hint = "run `turnmill migrate`"


class SessionBusy(StoreError):
    """Another transaction holds this session."""

    code = "session_busy"
    hint = "try again when the other transaction has ended"


class Unstorable(StoreError):
    """The tables do not take this."""

    code = "unstorable"


class WrongIsolation(StoreError):
    """The transaction given must be READ COMMITTED."""

    code = "wrong_isolation"
    hint = "a REPEATABLE READ or SERIALIZABLE snapshot cannot see who else sent to the session"


class UnreadableRow(StoreError):
    """A row of the store cannot be read."""

    code = "unreadable_row"
    hint = "`turnmill doctor` lists rows that are out of bounds; all others are not touched by it"


class InvalidInput(TurnmillError, ValueError):
    """An argument is not acceptable."""

    code = "invalid_input"


class InvalidText(InvalidInput):
    """The text is not acceptable."""

    code = "invalid_text"


class UnsupportedPart(InvalidInput):
    """A message holds a kind of content that it cannot be sent with."""

    code = "unsupported_part"
    hint = "send it as text"


class InvalidBatchFile(InvalidInput):
    """Lines of the file are not acceptable; nothing of it was submitted."""

    code = "invalid_batch_file"
    hint = 'a line is {"user_id" or "session", "text", "custom_id"?, "provider"?, "model"?, …}'

    def __init__(self, message: str = "", *, problems: Sequence[tuple[int, str]] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class NotFound(TurnmillError, LookupError):
    """There is no such thing."""

    code = "not_found"


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"
    hint = "`turnmill sessions ls` lists them; a key must be created first"


class TurnNotFound(NotFound):
    """There is no such turn."""

    code = "turn_not_found"
    hint = "`turnmill turns ls` lists them"


class BatchNotFound(NotFound):
    """There is no such batch."""

    code = "batch_not_found"
    hint = "`turnmill batch ls` lists them"


class Conflict(TurnmillError):
    """It does not go together with what stands."""

    code = "conflict"


class SessionArchived(Conflict):
    """The session is archived and takes no messages."""

    code = "session_archived"
    hint = "create a new session; the history of this one can still be read"


class IdempotencyConflict(Conflict):
    """The idempotency key stands for a message with other content."""

    code = "idempotency_conflict"
    hint = "use a new key for a new message"


class MoveRefused(Conflict):
    """The state does not allow it."""

    code = "move_refused"


class QueueFull(TurnmillError):
    """Too many unfinished turns."""

    code = "queue_full"
    hint = "wait until workers have caught up, or raise the bound"

    def __init__(
        self, message: str = "", *, retry_after: timedelta, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class BegunBeforeFork(TurnmillError):
    """This was begun before a fork, and belongs to the parent process."""

    code = "begun_before_fork"
    hint = "begin it again in this process; clients that were made before a fork can be used"


class NoReply(TurnmillError):
    """The turn ended without a reply."""

    code = "no_reply"

    def __init__(
        self,
        message: str = "",
        *,
        turn_id: str = "",
        error_code: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.turn_id = turn_id
        self.error_code = error_code


class TurnFailed(NoReply):
    """The provider refused the turn for good."""

    code = "turn_failed"
    hint = "`turnmill turns show ID` tells why"


class TurnDead(TurnFailed):
    """The turn used up its attempts."""

    code = "turn_dead"
    hint = "`turnmill turns show ID` tells why; `turnmill turns retry ID` tries again"


class TurnCancelled(NoReply):
    """The turn was cancelled."""

    code = "turn_cancelled"


class TurnExpired(NoReply):
    """The turn expired before it could run."""

    code = "turn_expired"


class TurnTimeout(TurnmillError, TimeoutError):
    """There is no reply yet; the turn goes on."""

    code = "turn_timeout"
    hint = "call result() again, or look with `turnmill turns show ID`"


class BatchTimeout(TurnTimeout):
    """Turns of the batch are unfinished; they go on."""

    code = "batch_timeout"
    hint = "call wait() again, or look with `turnmill batch status ID`"


class ProviderError(TurnmillError):
    """A provider could not answer.

    `error_code` is what the attempt row keeps; `detail` is the provider's own text: it may quote
    the user, so it is stored in the database and shown nowhere else. `kept` are the vendor's ids of
    what it stored all the same, to be deleted there.
    """

    code = "provider_error"

    def __init__(
        self,
        error_code: str = "",
        *,
        detail: str = "",
        retry_after: timedelta | None = None,
        request_id: str = "",
        kept: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(error_code or self.code, hint=hint)
        self.kept = tuple(kept)
        self.error_code = error_code or self.code
        self.detail = detail
        self.retry_after = retry_after
        self.request_id = request_id


class NotSent(ProviderError):
    """The provider did not execute the request."""

    code = "not_sent"


class Unreachable(NotSent):
    """No connection to the provider could be made."""

    code = "unreachable"


class RateLimited(NotSent):
    """The provider asks us to slow down."""

    code = "rate_limited"


class Overloaded(NotSent):
    """The provider has no capacity at the moment."""

    code = "overloaded"


class ThreadLocked(NotSent):
    """Another request works on the provider's thread."""

    code = "thread_locked"


class MaybeSent(ProviderError):
    """The request may have been executed."""

    code = "maybe_sent"


class ThreadLost(ProviderError):
    """The provider no longer has the thread that the session refers to."""

    code = "thread_lost"


class Rejected(ProviderError):
    """The provider refuses this request, now and later."""

    code = "rejected"


class ProviderUnknown(Rejected):
    """No installed provider has this name."""

    code = "provider_unknown"
    hint = "install the package that registers it under the entry point group turnmill.providers"


class KeyMissing(Rejected):
    """The worker has no API key for this provider."""

    code = "key_missing"
    hint = "set the provider's key in the environment of the worker"
