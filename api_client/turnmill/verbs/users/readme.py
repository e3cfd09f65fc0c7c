"""The page of an archive that a person reads first."""

from collections.abc import Mapping
from datetime import datetime

from turnmill.store.nouns.user_archive import LEFT_OUT, archived

_HEAD = """\
# What is kept of {user}

As of {as_of}. This archive holds everything that the service keeps of you: {files} files and {rows}
rows, in text that any program reads, and most people do.

- Each file whose name ends in `.jsonl` holds one row a line, as JSON. Times are UTC, money is US
  dollars, and ids join what belongs together: a message's `turn_id` is the `id` of a row in
  `turns.jsonl`, whose `session_id` is that of a conversation in `sessions.jsonl`.
- `files/` holds the files that you gave, by the `id` that they have in `attachments.jsonl`, where
  their names are.
- `schema.json` says what each field is, and `manifest.json` lists all files with their SHA-256, so
  that anybody can tell that none was changed.

To read what was said, open `messages.jsonl`: `role` is who speaks, `content` is what.

## The files

| file | rows | what it tells |
| --- | --- | --- |
"""
_MISSING = """
## What could not be had

The bytes of {count} files are gone, or are not those that were given: `missing` in `manifest.json`
names them.
"""
_LEFT_OUT = """
## What is not in it

"""


def readme(user_id: str, as_of: datetime, rows: Mapping[str, int], files: int, missing: int) -> str:
    """Return the page."""
    moment = f"{as_of:%Y-%m-%d %H:%M} UTC"
    user = "".join(letter if letter.isalnum() or letter in " .@-" else " " for letter in user_id)
    total = sum(rows.values())
    parts = [_HEAD.format(user=user, as_of=moment, files=files - missing, rows=total)]
    parts += [f"| `{one.path}` | {rows[one.name]} | {one.says} |\n" for one in archived()]
    if missing:
        parts.append(_MISSING.format(count=missing))
    parts.append(_LEFT_OUT)
    parts += [f"- {name}: {why}.\n" for name, why in LEFT_OUT.items()]
    return "".join(parts)
