"""Submitting: a file is read, checked and staged, and sealed when every line stands."""

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from secrets import token_bytes
from typing import NamedTuple

from turnmill.domain.arguments import yes_or_no
from turnmill.domain.batch_estimates import BatchEstimate
from turnmill.domain.batch_modes import LEFTOVERS, check_leftover, check_mode
from turnmill.domain.batches import BatchState
from turnmill.domain.checks import check_name
from turnmill.domain.errors import (
    Conflict,
    InvalidBatchFile,
    MoveRefused,
    SessionNotFound,
    TurnmillError,
)
from turnmill.domain.ids import BatchId, SessionId
from turnmill.domain.reply_limits import laid_over
from turnmill.domain.reuse import SECRET_BYTES, line_key
from turnmill.domain.session_settings import checked_settings, observers_given
from turnmill.new_ids import new_id
from turnmill.store.batch_records import BatchRecord, Fed
from turnmill.store.nouns import batch_feeding, batch_staging
from turnmill.store.nouns import batches as rows
from turnmill.store.nouns.batch_reuse import secret_of
from turnmill.store.nouns.batch_staging import HowToRun
from turnmill.store.rules.happenings import observe
from turnmill.store.rules.sealing import hashes_for
from turnmill.verbs import intake
from turnmill.verbs.batch_bounding import Bounding, Priced
from turnmill.verbs.batch_estimating import Estimator, Limits, Tally, bounded
from turnmill.verbs.batch_files.lines import Defaults, Draft, LineReader, model_by_default
from turnmill.verbs.batch_files.opening import (
    CHUNK,
    CHUNK_OF_SQLITE,
    JSON_LINES,
    BatchFile,
    Content,
    Identity,
)
from turnmill.verbs.batch_files.problems import (
    MOST,
    NO_SESSION,
    WRONG_VALUE,
    Problems,
    Refused,
)
from turnmill.verbs.batch_files.sources import Digest
from turnmill.verbs.batch_files.tables import columns_given
from turnmill.verbs.batch_states import bound, limits_given
from turnmill.verbs.intake import MOCK
from turnmill.verbs.verb import Connection, Effect, Verb, single, transaction

#: Lines that whoever submits makes turns of.
FIRST = batch_feeding.WINDOW
#: Of custom_ids, that are looked for without a store: 8 bytes of a hash stand for one.
_MOST_SEEN = 1_000_000
#: Whoever was named nothing by its giver, and cannot be read twice, has this name until it is read.
_UNNAMED = "stdin-"


class Checked(NamedTuple):
    """Lines that were read together."""

    seen: int
    last: int  #: number of the last of them
    drafts: Sequence[Draft]  #: those that are acceptable


class Submission:
    """A file that is to become a batch: read, checked and staged, and then sealed."""

    def __init__(
        self,
        path: object,
        *,
        mode: str,
        name: str | None,
        provider: str | None,
        model: str | None,
        observers: object,
        max_text_bytes: int,
        user_id: object = None,
        settings: object = None,
        format: object = None,  # noqa: A002  as callers say it
        columns: object = None,
        reuse: object = False,
        max_cost_usd: object = None,
        deadline: object = None,
        on_leftover: str = LEFTOVERS[0],
    ) -> None:
        """Raise InvalidInput; the file is not opened yet."""
        self._reuse = yes_or_no(reuse, name="reuse")
        self._bounds = limits_given(max_cost_usd, deadline)
        self._secret = b""
        self._observers = observers_given(observers) or []
        self._mode = check_mode(mode)
        self._on_leftover = check_leftover(on_leftover, mode=self._mode)
        self._providers: set[str] = set()  #: of lines with sessions of their own
        self._defaults = Defaults(
            provider=intake.name_or_none(provider, name="provider"),
            model=intake.name_or_none(model, name="model"),
            user_id=intake.name_or_none(user_id, name="user_id"),
            settings=checked_settings(settings),
        )
        intake.refuse_strangers(self._defaults.settings)
        self._name = intake.name_or_none(name, name="name")
        form = None if format is None else check_name(format, name="format")
        self.file = BatchFile(
            path, form=form, by_column=columns_given(columns), max_text_bytes=max_text_bytes
        )
        self._reader = LineReader(self._defaults, max_text_bytes=max_text_bytes)
        self._problems = Problems()
        self._seen = 0  #: lines
        self._digest = Digest()
        self._identity: Identity | None = None
        self._estimator: Estimator | None = None
        self.bounding: Bounding | None = None
        self._priced: Priced | None = None

    @property
    def defaults(self) -> Defaults:
        """Return what lines may leave out."""
        return self._defaults

    @property
    def total(self) -> int:
        """How many lines the file has, as far as that is known."""
        known = self._identity.lines if self._identity is not None else None
        return known or self._seen

    def identify(self) -> None:
        """Read the file, and learn what it is known by; raises InvalidBatchFile."""
        if not self.file.is_read_once:
            self._identity = self.file.identity()
            if self._identity.lines == 0:
                raise _empty()

    def price_by(self, estimator: Estimator | None) -> None:
        """Have each line say what it may cost at the most, for budgets that are to be kept to."""
        self._estimator = estimator
        self.bounding = None if estimator is None else Bounding(estimator)

    @property
    def is_limited(self) -> bool:
        """Tell whether the batch has a limit of its own, which needs prices to be kept to."""
        return self._bounds.max_cost_usd is not None

    def refuse_unpriced(
        self, estimator: Estimator | None, *, of_workers: Collection[str] = ()
    ) -> None:
        """Where the batch is limited, refuse lines without a price: each would fail for it.

        `of_workers` are the names of the models that workers have prices of.
        """
        if estimator is not None and self.is_limited:
            self._priced = Priced(estimator, of_workers=of_workers)

    def create(self) -> Verb[BatchRecord]:
        """Create the batch, or find it; Conflict where the name stands for other content."""
        known = b"" if self._identity is None else self._hash(self._identity.digest)
        batch_id, label = BatchId(new_id()), f"{self.file.source.label}-"

        def on(conn: Connection) -> Effect[BatchRecord]:
            hashes = hashes_for(conn, self._defaults.user_id, known) if known else ()
            by_itself = rows.name_of(conn, label, hashes) if known else f"{_UNNAMED}{batch_id}"
            record = rows.create(
                conn,
                batch_id,
                name=self._name or by_itself,
                hashes=hashes,
                metadata={"mode": self._mode, "file": self.file.source.label},
                user_id=self._defaults.user_id,
                reuse=self._reuse,
                settings=dict(self._defaults.settings),
                defaults={
                    "provider": self._defaults.provider or MOCK,
                    "model": model_by_default(self._defaults),
                },
            )
            _refuse_older(conn, record)
            _refuse_cancelled(record)
            self._secret = secret_of(conn, record.user_id, new=token_bytes(SECRET_BYTES))
            if record.total is None:
                bound(conn, record.id, self._bounds)
            if self._observers:
                observe(conn, {SessionId(record.id): self._observers})
            return Effect(record)

        return transaction(on)

    def checked(self, *, small: bool) -> Iterator[Checked]:
        """Yield the lines of the file that are acceptable, until enough of the others are known."""
        for chunk in self.file.chunks(self._digest, size=CHUNK_OF_SQLITE if small else CHUNK):
            self._seen += len(chunk)
            yield Checked(len(chunk), chunk[-1][0], self._drafts(chunk))
            if self._problems.are_enough:
                break

    def _drafts(self, chunk: Sequence[tuple[int, Content]]) -> list[Draft]:
        found = []
        for number, content in chunk:
            try:
                found.append(self._reader.read(number, content))
            except Refused as refused:
                self._problems.add(number, refused)
        found = [self._keyed(one) for one in found if self._has_price(one)]
        self._providers.update(one.terms.provider for one in found if one.terms is not None)
        return found if self._estimator is None else [*bounded(found, self._estimator)]

    def _has_price(self, draft: Draft) -> bool:
        wrong = None if self._priced is None else self._priced.refusal_of(draft)
        if wrong is not None:
            self._problems.add(draft.line.number, wrong)
        return wrong is None

    def _keyed(self, draft: Draft) -> Draft:
        """Return the line with what an equal one has, too; one that goes on with others has none.

        Whether answers are taken from before or not, later batches may take those of this one.
        """
        line = draft.line
        if not self._secret or draft.session is not None or line.user_id is None or draft.files:
            return draft
        own = line.content
        asked = {
            **own,
            "provider": own.get("provider") or self._defaults.provider or MOCK,
            "model": own.get("model") or model_by_default(self._defaults),
            "settings": laid_over(self._defaults.settings, own.get("settings", {})),
        }
        key = line_key(self._secret, user_id=line.user_id, asked=asked)
        return draft._replace(line=line._replace(key=key))

    def stage(self, batch_id: BatchId, checked: Checked) -> Verb[None]:
        """Write lines, but for those whose session takes no messages: these are noted."""
        refs = {one.session for one in checked.drafts if one.session is not None}

        def on(conn: Connection) -> Effect[None]:
            known = rows.open_sessions(conn, refs) if refs else {}
            lines = []
            for line, ref, *_ in checked.drafts:
                if ref is None:
                    lines.append(line)
                elif ref in known:
                    session_id, user_id = known[ref]
                    lines.append(line._replace(session=str(session_id), user_id=user_id))
                else:
                    what = "no session of this id or key takes messages"
                    self._problems.add(line.number, Refused(NO_SESSION, what))
            batch_staging.stage(conn, batch_id, lines, last=checked.last)
            return Effect(None)

        return transaction(on)

    def note_unkept(self, draft: Draft, error: TurnmillError) -> None:
        """Note that a file of a line cannot be kept, and why."""
        code = NO_SESSION if isinstance(error, SessionNotFound) else WRONG_VALUE
        self._problems.add(draft.line.number, Refused(code, f"a file: {error}"))

    def look_for_twins(self, batch_id: BatchId) -> Verb[None]:
        """Note lines whose custom_id stands twice."""

        def on(conn: Connection) -> Effect[None]:
            self._problems.add_twice(batch_staging.twice(conn, batch_id, limit=MOST))
            return Effect(None)

        return single(on)

    def estimated(self, estimator: Estimator | None, limits: Limits) -> BatchEstimate:
        """Read the file to its end, and return what a batch of it may take; nothing is written.

        Raises InvalidBatchFile. Blocks.
        """
        tally = Tally(estimator)
        seen: set[int] = set()
        for checked in self.checked(small=False):
            for draft in checked.drafts:
                tally.add(draft)
                self._note_twin(draft, seen)
        self.refuse_wrong()
        return tally.estimate(limits)

    def _note_twin(self, draft: Draft, seen: set[int]) -> None:
        custom_id = draft.line.custom_id
        if custom_id is None or len(seen) >= _MOST_SEEN:
            return
        known = int.from_bytes(hashlib.blake2b(custom_id.encode(), digest_size=8).digest())
        if known in seen:
            self._problems.add_twice([draft.line.number])
        seen.add(known)

    def refuse_wrong(self) -> None:
        """Raise InvalidBatchFile where something is wrong with the file."""
        if self._problems:
            raise self._problems.error()
        if not self._seen:
            raise _empty()

    def begins_anew(self, record: BatchRecord) -> bool:
        """Tell whether what stands of the batch is of no use: it is to be removed."""
        if record.total is not None or record.state is not BatchState.SUBMITTING:
            return False
        is_cut = self.file.is_read_once and record.last_line > 0
        return is_cut or record.cancelled_at is not None

    def read_on(self) -> None:
        """Read to the end a file that can be read once: its batch stands already."""
        for _ in self.file.chunks(self._digest):
            pass

    def refuse_other(self, batch_id: BatchId) -> Verb[None]:
        """Raise Conflict where a batch that stands has other content than what was read."""

        def on(conn: Connection) -> Effect[None]:
            user_id = self._defaults.user_id
            batch_staging.refuse_other(conn, batch_id, hashes_for(conn, user_id, self._known()))
            return Effect(None)

        return single(on)

    def seal(self, record: BatchRecord) -> Verb[BatchId]:
        """Let the batch run; return which one it is: the same content may stand already.

        Conflict when the file is not the one that was read at first.
        """
        known = self._known()
        is_unnamed = self._identity is None and self._name is None
        run = HowToRun(
            mode=self._mode, on_leftover=self._on_leftover, providers=frozenset(self._providers)
        )

        def on(conn: Connection) -> Effect[BatchId]:
            hashes = hashes_for(conn, self._defaults.user_id, known)
            name = rows.name_of(conn, _UNNAMED, hashes) if is_unnamed else record.name
            sealed = batch_staging.seal(conn, record.id, hashes=hashes, name=name, run=run)
            return Effect(sealed)

        return transaction(on)

    def _known(self) -> bytes:
        """Return what the file is known by, now that it was read; raises Conflict."""
        digest, first = self._digest.value(), self._identity
        if first is None or self.file.form != JSON_LINES:
            return self._hash(digest if first is None else first.digest)
        if digest != first.digest:
            raise Conflict(
                "the file was changed while it was submitted",
                hint="submit it again when nobody writes to it",
            )
        return self._hash(digest)

    def _hash(self, content: bytes) -> bytes:
        """Return what the content and what lines may leave out are known by."""
        given = self._defaults
        said = f"{given.provider or MOCK}\n{given.model or ''}\n"
        more = {"user_id": given.user_id, "settings": given.settings}
        if any(more.values()):
            said += json.dumps(more, sort_keys=True) + "\n"
        return hashlib.sha256(said.encode() + content).digest()


def _empty() -> InvalidBatchFile:
    return InvalidBatchFile("the file has no lines")


def _refuse_older(conn: Connection, record: BatchRecord) -> None:
    is_open = record.state is BatchState.SUBMITTING and record.cancelled_at is None
    if is_open and batch_staging.was_begun_before(conn, record.id):
        raise MoveRefused(
            "the batch was begun by an older version, and half of it stands",
            hint="cancel it, and submit the file under another name",
        )


def _refuse_cancelled(record: BatchRecord) -> None:
    if record.total is not None and record.cancelled_at is not None:
        raise MoveRefused("the batch was cancelled", hint="submit the file under another name")


def discard(batch_id: BatchId) -> Verb[int]:
    """Remove some lines of a batch that never ran, and return how many; 0: it is gone."""
    return transaction(lambda conn: Effect(batch_staging.discard(conn, batch_id)))


def feed(batch_id: BatchId, *, small: bool) -> Verb[Fed]:
    """Make turns of the next lines."""
    limit = CHUNK_OF_SQLITE if small else batch_feeding.AT_ONCE

    def on(conn: Connection) -> Effect[Fed]:
        fed = batch_feeding.feed(conn, batch_id, limit=limit)
        return Effect(fed, fed.heads)

    return transaction(on)
