"""Experiments: which of two set-ups a new session gets, the same for all sessions of a user."""

from enum import StrEnum
from hashlib import blake2b
from uuid import UUID

from turnmill.domain.arguments import plain_number
from turnmill.domain.errors import InvalidInput

_HINT = "share=0.1: every tenth user"


class Arm(StrEnum):
    """Which set-up a session has."""

    USUAL = "usual"  #: as its template says
    OTHER = "other"  #: as the experiment says


def share_given(value: object) -> float:
    """Return the share of users that get the other set-up; raises InvalidInput."""
    found = plain_number(value)
    if found is not None and 0 < found < 1:
        return float(found)
    raise InvalidInput("share must be between 0 and 1", hint=_HINT)


def arm_of(experiment: UUID, user_id: str, *, share: float) -> Arm:
    """Return the arm of a user: by a hash of both, so that experiments share no order of users."""
    digest = blake2b(user_id.encode(), key=experiment.bytes, digest_size=8).digest()
    return Arm.OTHER if int.from_bytes(digest) / 2**64 < share else Arm.USUAL
