"""Names of uploads: by them a file is found at a vendor that was uploaded by who did not live on.

What is written down before an upload is the name alone, as the reference `upload:…`; the vendor's
own name takes its place. A name says which store it belongs to and when its upload began, and
nothing of who has made it.
"""

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

#: Begins the reference of an upload that nobody has told the end of.
IN_FLIGHT = "upload:"
#: An upload takes no longer: what is not at the vendor after it, will not come.
UPLOAD_WITHIN = timedelta(minutes=5)

#: The code of a file that its vendor does not have any more.
FILE_LOST = "file_lost"

#: Names that older versions gave have no mark.
_NAME = re.compile(r"turnmill-(?:([0-9a-f]{12})-)?([0-9a-f]{8})-[0-9a-f]{32}")


def new_name(now: datetime, *, mark: str = "") -> str:
    """Return a name that no other upload has; `mark` tells whose store knows of it."""
    whose = f"{mark}-" if mark else ""
    return f"turnmill-{whose}{int(now.timestamp()):08x}-{uuid4().hex}"


def begun_at(name: str) -> datetime | None:
    """Return when the upload of this name began, or None where it is no name of ours."""
    found = _NAME.fullmatch(name)
    return datetime.fromtimestamp(int(found[2], 16), UTC) if found else None


def mark_in(name: str) -> str:
    """Return whose store knows of the upload, or "" where the name does not tell."""
    found = _NAME.fullmatch(name)
    return (found[1] or "") if found else ""


def name_in(filename: object) -> str:
    """Return the name in that of a vendor's file, or "" where it is no name of ours."""
    stem = filename.partition(".")[0] if isinstance(filename, str) else ""
    return stem if _NAME.fullmatch(stem) else ""
