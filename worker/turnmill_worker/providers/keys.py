"""Keys: what stands for one where it must not be told."""

import hashlib

_DIGITS = 12


def account_of(*parts: str | None) -> str:
    """Return some digits of a hash of a key and of all else that makes an account of it."""
    named = "\n".join(one or "" for one in parts)
    return hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]
