"""A summary that stands for what was said before, as a model is shown it."""

from turnmill.domain.content import Message

_OPENING = "[Summary of our conversation so far, whose beginning is left out]\n\n"


def opening(summary: str) -> Message:
    """Return the message with which a history begins whose oldest turns are left out.

    The user's, though it tells of both: nothing of what was said gets the system's weight.
    """
    return Message.of("user", _OPENING + summary)


def is_opening(message: Message) -> bool:
    """Tell whether it is such a message."""
    return message.role == "user" and message.text.startswith(_OPENING)
