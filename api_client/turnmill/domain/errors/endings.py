"""Why there is no reply, or none yet."""

from turnmill.domain.errors.base import TurnmillError


class NoReply(TurnmillError):
    """The turn ended without a reply."""

    code = "no_reply"

    def __init__(
        self,
        message: str = "",
        *,
        turn_id: str = "",
        error_code: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.turn_id = turn_id
        self.error_code = error_code


class TurnFailed(NoReply):
    """The provider refused the turn for good."""

    code = "turn_failed"
    hint = "`turnmill turns show ID` tells why"


class TurnDead(TurnFailed):
    """The turn used up its attempts."""

    code = "turn_dead"
    hint = "`turnmill turns show ID` tells why; `turnmill turns retry ID` tries again"


class TurnCancelled(NoReply):
    """The turn was cancelled."""

    code = "turn_cancelled"
    hint = "`cancel(keep_partial=True)` keeps what had come; `turn.messages()` shows it"


class TurnExpired(NoReply):
    """The turn expired before it could run."""

    code = "turn_expired"
    hint = "give it more time with `expires=`, or none; `turnmill doctor` tells why turns wait"


class TurnTimeout(TurnmillError, TimeoutError):
    """There is no reply yet; the turn goes on."""

    code = "turn_timeout"
    hint = "call result() again, or look with `turnmill turns show ID`"


class BatchTimeout(TurnTimeout):
    """Turns of the batch are unfinished; they go on."""

    code = "batch_timeout"
    hint = "call wait() again, or look with `turnmill batch status ID`"
