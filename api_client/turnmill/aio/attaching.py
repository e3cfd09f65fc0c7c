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
from turnmill.executor.task import AsyncExecutor, async_aside
from turnmill.verbs import intake
from turnmill.verbs.refs import SessionRef

if TYPE_CHECKING:
    from turnmill.verbs.submitting import Checked, Submission

#: Lines wait for so long, at the most, for turns to be made of them: their files are kept for it.
_FOR_BATCH = timedelta(days=30)


async def async_with_files(
    executor: AsyncExecutor,
    session: SessionRef,
    said: Said,
    attached: Sequence[Any],
    *,
    connection: Any = None,
) -> Said:
    """Return the message with all its files kept; the same one where it has none."""
    from turnmill.aio.attachments import async_kept_all  # noqa: PLC0415
    from turnmill.verbs import attachments  # noqa: PLC0415

    loose = attachments.loose_parts(said, attached)
    if loose is None:
        return said
    if connection is None:
        owner = await executor.run(attachments.owner(session))
    else:
        owner = await executor.run_joined(
            connection, attachments.owner_joined(session, executor.schema)
        )
    return await async_kept_all(executor, loose, owner)


async def async_each_with_files(executor: AsyncExecutor, messages: Iterable[Any]) -> Iterable[Any]:
    """Return pairs of session and message with all their files kept; most have none."""
    if isinstance(messages, list) and all(map(_is_plain, list.__iter__(messages))):
        return messages
    sessions, texts = intake.pairs(messages)
    said = [
        one if isinstance(one, str) else await async_with_files(executor, session, one, ())
        for session, one in zip(sessions, texts, strict=True)
    ]
    return zip(sessions, said, strict=True)


async def async_lines_with_files(
    executor: AsyncExecutor, submission: "Submission", checked: "Checked"
) -> "Checked":
    """Return lines of a batch with all their files kept; those whose files cannot be are noted."""
    if not any(one.files for one in checked.drafts):
        return checked
    from turnmill.aio.attachments import async_kept_all  # noqa: PLC0415
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
                owner = await executor.run(attachments.owner(draft.session))
            loose = [one.loose for one in draft.files]
            kept = await async_kept_all(executor, loose, owner, keeps=_FOR_BATCH)
        except (InvalidInput, NotReached, FilesQuotaExceeded, SessionNotFound) as error:
            submission.note_unkept(draft, error)
        else:
            drafts.append(draft.with_kept(kept))
    return checked._replace(drafts=drafts)


async def async_bounded(
    executor: AsyncExecutor, submission: "Submission", read: "Checked", held: "Checked"
) -> "Checked":
    """Return lines with what they may cost that was not seen when they were `read`.

    None where no budget asks for it.
    """
    from turnmill.verbs import batch_bounding  # noqa: PLC0415

    bounding = submission.bounding
    which = {one.line.number for one in read.drafts if batch_bounding.is_open(one)}
    if bounding is None or not which:
        return held
    found = await executor.run(batch_bounding.standing(held.drafts))
    bounded = await async_aside(bounding.bounded, held.drafts, which, found)
    return held._replace(drafts=bounded)


def _is_plain(pair: object) -> bool:
    return type(pair) is tuple and len(pair) == 2 and isinstance(pair[1], str)
