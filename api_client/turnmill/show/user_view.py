"""Users as a whole: archives, erasures, holds, and what was found; for people and for programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from turnmill.show.listing import Listing
from turnmill.show.tables import fields, print_json
from turnmill.show.terminal import on_one_line, say, tell
from turnmill.show.wording import count, moment_text

if TYPE_CHECKING:
    from turnmill.store.deletion_records import Erasure, Hold
    from turnmill.verbs.users.erasing import Replayed
    from turnmill.verbs.users.exporting import UserExport
    from turnmill.verbs.users.verifying import ErasureCheck

#: Progress is told so often at the most.
_EVERY_SECONDS = 1.0


def _erasure(one: Erasure) -> tuple[object, ...]:
    times = (one.requested_at, one.due_at, one.ended_at)
    return (one.user_hash, one.state, *times, one.reason)


def _hold(one: Hold) -> tuple[object, ...]:
    return (one.user_id, one.since, one.reason)


def _document(one: Any) -> dict[str, Any]:
    return dict(fields(one, *one.__dataclass_fields__))


ERASURES: Listing[Erasure] = Listing(
    columns=("user", "state", "asked", "due", "ended", "reason"),
    row=_erasure,
    document=_document,
    spare=("due", "reason"),
)
HOLDS: Listing[Hold] = Listing(columns=("user", "since", "reason"), row=_hold, document=_document)


def progress_on_stderr() -> Callable[[str, int], None]:
    """Return what tells now and then how far an archive is."""
    told_at = time.monotonic()

    def progress(what: str, count: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _EVERY_SECONDS:
            told_at = time.monotonic()
            say(f"{what}: {count}")

    return progress


def print_export(made: UserExport, *, as_json: bool) -> None:
    """Print what an archive holds."""
    if as_json:
        names = ("path", "user_id", "as_of", "files", "bytes", "sha256")
        missing = [str(one) for one in made.missing]
        document = {**fields(made, *names), "rows": dict(made.rows), "missing": missing}
        print_json(document | {"path": str(made.path)})
        return
    rows = ", ".join(f"{count} {name}" for name, count in made.rows.items() if count)
    tell(on_one_line(f"{made.path}  {made.bytes} bytes, as of {moment_text(made.as_of)}"))
    tell(f"rows: {rows}")
    tell(f"files: {made.files}" + (f", {len(made.missing)} missing" if made.missing else ""))
    if made.sha256:
        tell(f"sha256: {made.sha256}")


def print_check(found: ErasureCheck, *, as_json: bool) -> None:
    """Print where something was found; never what."""
    if as_json:
        names = ("user_hash", "columns", "files", "keys", "unvacuumed", "clean")
        remains = [fields(one, "where", "what", "count") for one in found.remains]
        print_json({**fields(found, *names), "remains": remains, "unseen": list(found.unseen)})
        return
    for one in found.remains:
        tell(on_one_line(f"found: {one.count} in {one.where} ({one.what})"))
    for place in found.unseen:
        tell(on_one_line(f"not looked at: {place}"))
    looked = (
        f"{count(found.columns, 'column')}, {count(found.files, 'file')},"
        f" {count(found.keys, 'key')} of a Redis"
    )
    tell(("nothing was found in " if found.clean else "looked at ") + looked)
    if found.unvacuumed:
        tell(f"{count(found.unvacuumed, 'row')} gone, whose bytes are there until the next VACUUM")


def print_replayed(told: Replayed, *, as_json: bool) -> None:
    """Print how many users were erased again."""
    if as_json:
        print_json(told._asdict())
        return
    tell(f"{count(told.known, 'erasure')} looked at, {count(told.erased, 'user')} erased again")
