"""How a sealed value looks, and that a value is one."""

import re

#: Before every sealed value; then the data key's id, a dot, and nonce and ciphertext in base64.
PREFIX = "tm1."
ID_LENGTH = 22
#: Where nonce and ciphertext begin.
BODY = len(PREFIX) + ID_LENGTH + 1

#: Under this key of an object stands what of it is sealed.
SEALED_IN = "tm1"

#: How a file begins that is sealed; no file of a kind that is taken begins so.
MAGIC = b"\x93turnmill1"

_SEALED = re.compile(r"tm1\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9+/]{38,}={0,2}")


def is_sealed(value: object) -> bool:
    """Tell whether a value is one that was sealed."""
    return isinstance(value, str) and value.startswith(PREFIX) and bool(_SEALED.fullmatch(value))


def key_id_of(sealed: str) -> str:
    """Return the id of the data key that a sealed value names."""
    return sealed[len(PREFIX) : BODY - 1]


def is_sealed_file(head: bytes) -> bool:
    """Tell whether a file that begins so is sealed."""
    return head.startswith(MAGIC)
