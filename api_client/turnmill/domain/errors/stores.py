"""What a store refuses, and what that means."""

from turnmill.domain.errors.base import TurnmillError


class StoreError(TurnmillError):
    """The store could not do it."""

    code = "store_error"
    hint = "`turnmill doctor` looks at the database"
    #: What keeps a connection from being made, in one word for programs: `password`, `database`,
    #: `refused`, `certificate`, `statement_mode`, …; empty for all other errors.
    reason: str = ""


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
    hint = "the message says which value; shorten it, or leave it out"


class UserErased(Unstorable):
    """The user was erased: nothing is written for him any more."""

    code = "user_erased"
    hint = "`turnmill users admit` lets somebody of the same id in again"


class WrongIsolation(StoreError):
    """The transaction given must be READ COMMITTED."""

    code = "wrong_isolation"
    hint = "a REPEATABLE READ or SERIALIZABLE snapshot cannot see who else sent to the session"


class UnreadableRow(StoreError):
    """A row of the store cannot be read."""

    code = "unreadable_row"
    hint = "`turnmill doctor` lists rows that are out of bounds; all others are not touched by it"


class SealBroken(UnreadableRow, ValueError):
    """What is sealed was not sealed for the place where it stands."""

    code = "seal_broken"
    hint = (
        "somebody has moved or changed it, or the keyring is another one: restore what stood there"
    )


class DataKeyMissing(StoreError):
    """A key that reads or writes encrypted content is not there."""

    code = "data_key_missing"
    hint = "put it back: TURNMILL_ENCRYPTION_KEYS, TURNMILL_KEY_STORE; turns wait, nothing is lost"


class FilesUnavailable(StoreError):
    """The file store cannot be reached, or has no room."""

    code = "files_unavailable"
    hint = "check TURNMILL_FILES_URL, and the room that is left there"
