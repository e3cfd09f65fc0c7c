"""Records of the audit log, and what each of its hashes is of."""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

#: Where the chain begins.
FIRST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One row of the log: who did what to whose data. Ids and figures, no content."""

    id: int
    at: datetime
    actor: str  #: who did it, as his process says
    login: str  #: the role of Postgres that wrote it; empty in a file or memory
    action: str
    subject: str | None  #: the pseudonym of whose data it was
    user_id: str | None = field(default=None, repr=False)  #: whose; None: nobody's, or erased
    objects: Mapping[str, str]
    figures: Mapping[str, Any]
    after: int | None = field(repr=False)  #: the newest row that stood when it was written
    digest: str = field(repr=False)

    @property
    def is_whole(self) -> bool:
        """Tell whether the row says what it said when it was written."""
        return hmac.compare_digest(self.digest, digest_of(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHead:
    """The hash of a group of rows and of all groups before it. Exported, it is a checkpoint."""

    n: int
    last_id: int
    rows: int
    rows_digest: str = field(repr=False)
    before: str = field(repr=False)
    at: datetime
    hash: str

    @property
    def is_whole(self) -> bool:
        """Tell whether the head says what it said when it was made."""
        return hmac.compare_digest(self.hash, hash_of(self))

    def __str__(self) -> str:
        """Return it as `turnmill audit verify --checkpoint` takes it."""
        return f"{self.n}:{self.hash}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditBreak:
    """Something that the log says otherwise than it was written."""

    what: str
    id: int | None = None  #: of the row
    group: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCheck:
    """What a look at the whole log has found."""

    rows: int
    groups: int
    purged: int  #: groups whose rows were kept for long enough, and went
    unchained: int  #: rows that upkeep has not taken into the chain yet
    head: AuditHead | None
    broken: Sequence[AuditBreak]  #: the first hundred

    @property
    def ok(self) -> bool:
        """Tell whether nothing was edited, removed, put in or moved."""
        return not self.broken


def digest_of(entry: AuditEntry) -> str:
    """Return the digest of what a row says."""
    said = [entry.id, _moment(entry.at), entry.actor, entry.login, entry.action, entry.subject]
    return _sha256([*said, dict(entry.objects), dict(entry.figures), entry.after])


def rows_digest_of(digests: Sequence[str]) -> str:
    """Return the digest of a group of rows, in the order of their ids."""
    return _sha256(list(digests))


def hash_of(head: AuditHead) -> str:
    """Return the hash of a group, which holds that of the group before it."""
    said = [head.n, head.last_id, head.rows, head.rows_digest, head.before, _moment(head.at)]
    return _sha256(said)


def pseudonym_of(user_id: str, *, key: str) -> str:
    """Return the name of a user for the log; without the key nobody can tell whose it is."""
    return hmac.new(bytes.fromhex(key), user_id.encode(), hashlib.sha256).hexdigest()[:32]


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _sha256(said: Sequence[Any]) -> str:
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
