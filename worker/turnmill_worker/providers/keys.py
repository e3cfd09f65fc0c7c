"""Keys: what a worker's environment has of an account, and what stands for it where it is told."""

import hashlib
import os

from turnmill.domain.errors import KeyMissing

_DIGITS = 12


def key_in(variable: str) -> str:
    """Return the key in this variable. Raises KeyMissing, which quotes nothing of it."""
    key = value_in(variable)
    if not key:
        raise KeyMissing(hint=f"set {variable} in the environment of the worker")
    if not (key.isascii() and key.isprintable()):
        raise KeyMissing(
            detail=f"{variable} holds a character that no key has",
            hint=f"copy the key into {variable} anew, set it for the worker and restart it",
        )
    return key


def value_in(variable: str) -> str | None:
    """Return what the variable says, without white space around it; None where that is nothing.

    A file with Windows line ends, or a secret that was made with `echo`, leaves a line end behind
    the value, which no header and no URL may hold.
    """
    return os.environ.get(variable, "").strip() or None


def account_of(*parts: str | None) -> str:
    """Return some digits of a hash of a key and of all else that makes an account of it."""
    named = "\n".join(one or "" for one in parts)
    return hashlib.sha256(named.encode()).hexdigest()[:_DIGITS]
