"""Identifiers: UUIDs that sort by time of creation, told apart by type."""

import hashlib
from typing import NewType
from uuid import UUID

SessionId = NewType("SessionId", UUID)
TurnId = NewType("TurnId", UUID)
BatchId = NewType("BatchId", UUID)

#: Stands before a user's id where it is hashed: no hash of anything else of ours is the same.
USER_HASHED = b"turnmill:user:"


def uuid7(*, unix_ms: int, random_bits: int) -> UUID:
    """Build a version 7 UUID (RFC 9562, section 5.7) from a time and 74 or more random bits.

    New rows land at the right edge of their index, and a list sorted by id is sorted by age.
    """
    stamp = (unix_ms & 0xFFFF_FFFF_FFFF) << 80
    upper = (random_bits >> 62) & 0xFFF
    lower = random_bits & 0x3FFF_FFFF_FFFF_FFFF
    return UUID(int=stamp | 0x7 << 76 | upper << 64 | 0b10 << 62 | lower)


def as_uuid(text: object) -> UUID | None:
    """Return the UUID that the text spells, or None; also for what is no text."""
    try:
        return UUID(str.__str__(text)) if isinstance(text, str) else None
    except ValueError:
        return None


def hash_of_user(user_id: str) -> str:
    """Return what stands for a user where nothing is to name him: a hash, in hex.

    Whoever can guess the id can check the guess.
    """
    return hashlib.sha256(USER_HASHED + user_id.encode()).hexdigest()


_HYPHENS = (8, 13, 18, 23)  #: where an id has them
_LEAST = 8  #: digits of a prefix: those that follow differ from one second to the next


def ids_from(prefix: str) -> tuple[UUID, UUID] | None:
    """Return the least and the largest id that begin so; None for what no id begins with.

    A prefix has eight digits at least, and hyphens where an id has them, or none.
    """
    hyphens = [at for at, letter in enumerate(prefix) if letter == "-"]
    digits = prefix.replace("-", "").lower()
    if hyphens and hyphens != [at for at in _HYPHENS if at < len(prefix)]:
        return None
    if not _LEAST <= len(digits) <= 32 or digits.strip("0123456789abcdef"):
        return None
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
