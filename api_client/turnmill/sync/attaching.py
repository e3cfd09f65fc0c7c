# Made from aio/attaching.py by `make sync`: change that.
"""Files in messages: kept before the message is written. A message of words alone passes by."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from turnmill.domain.content import Said
from turnmill.domain.errors import (
    FilesQuotaExceeded,
    InvalidInput,
    NotReached,
    SessionNotFound,
)
from turnmill.executor.thread import Executor, aside
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef

if TYPE_CHECKING:
    from turnmill.verbs.submitting import Checked, Submission

#: Lines wait for so long, at the most, for turns to be made of them: their files are kept for it.
_FOR_BATCH = timedelta(days=30)


def with_files(
    executor: Executor,
    session: SessionRef,
    said: Said,
    attached: Sequence[Any],
    *,
    connection: Any = None,
) -> Said:
    """Return the message with all its files kept; the same one where it has none."""
    from turnmill.sync.attachments import kept_all  # noqa: PLC0415
    from turnmill.verbs import attachments  # noqa: PLC0415

    loose = attachments.loose_parts(said, attached)
    if loose is None:
        return said
    if connection is None:
        owner = executor.run(attachments.owner(session))
    else:
        owner = executor.run_joined(connection, attachments.owner_joined(session, executor.schema))
    return kept_all(executor, loose, owner)


def each_with_files(executor: Executor, messages: Iterable[Any]) -> Iterable[Any]:
    """Return pairs of session and message with all their files kept; most have none."""
    if isinstance(messages, list) and all(map(_is_plain, list.__iter__(messages))):
        return messages
    sessions, texts = intake.pairs(messages)
    said = [
        one if isinstance(one, str) else with_files(executor, session, one, ())
        for session, one in zip(sessions, texts, strict=True)
    ]
    return zip(sessions, said, strict=True)


def lines_with_files(executor: Executor, submission: "Submission", checked: "Checked") -> "Checked":
    """Return lines of a batch with all their files kept; those whose files cannot be are noted."""
    if not any(one.files for one in checked.drafts):
        return checked
    from turnmill.sync.attachments import kept_all  # noqa: PLC0415
    from turnmill.verbs import attachments  # noqa: PLC0415

    drafts = []
    for draft in checked.drafts:
        if not draft.files:
            drafts.append(draft)
            continue
        try:
            owner = draft.line.user_id
            if owner is None:
                assert draft.session is not None
                owner = executor.run(attachments.owner(draft.session))
            loose = [one.loose for one in draft.files]
            kept = kept_all(executor, loose, owner, keeps=_FOR_BATCH)
        except (InvalidInput, NotReached, FilesQuotaExceeded, SessionNotFound) as error:
            submission.note_unkept(draft, error)
        else:
            drafts.append(draft.with_kept(kept))
    return checked._replace(drafts=drafts)


def bounded(
    executor: Executor, submission: "Submission", read: "Checked", held: "Checked"
) -> "Checked":
    """Return lines with what they may cost that was not seen when they were `read`.

    None where no budget asks for it.
    """
    from turnmill.verbs import batch_bounding  # noqa: PLC0415

    bounding = submission.bounding
    which = {one.line.number for one in read.drafts if batch_bounding.is_open(one)}
    if bounding is None or not which:
        return held
    found = executor.run(batch_bounding.standing(held.drafts))
    bounded = aside(bounding.bounded, held.drafts, which, found)
    return held._replace(drafts=bounded)


def _is_plain(pair: object) -> bool:
    return type(pair) is tuple and len(pair) == 2 and isinstance(pair[1], str)
