"""What equal lines of batches have in common, and nobody can tell who has not the owner's key."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

#: Of what an owner's lines are hashed with, and of the hash.
SECRET_BYTES = 32
KEY_BYTES = 16

#: Of a line, what no answer depends on.
_BESIDE = frozenset({"metadata"})
#: Equal lines are the same text, whatever the order of their fields.
_written = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def line_key(secret: bytes, *, user_id: str, asked: Mapping[str, Any]) -> bytes:
    """Return the same for lines of one user that ask the same, of the same model, in the same way.

    `asked` is all that the line says, with what it leaves to its batch: provider, model, settings.
    """
    said = {name: value for name, value in asked.items() if name not in _BESIDE}
    if (text := said.pop("text", None)) is not None:  # the same as one message of the user's
        said["said"] = [[["user", [{"type": "text", "text": text}]]]]
    as_text = _written([user_id, said])
    return blake2b(
        as_text.encode(errors="surrogatepass"), key=secret, digest_size=KEY_BYTES
    ).digest()
