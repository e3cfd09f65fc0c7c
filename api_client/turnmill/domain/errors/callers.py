"""What is wrong with what a caller hands in, or asks for."""

from collections.abc import Sequence
from datetime import timedelta

from turnmill.domain.errors.base import TurnmillError


class InvalidInput(TurnmillError, ValueError):
    """An argument is not acceptable."""

    code = "invalid_input"


class InvalidText(InvalidInput):
    """The text is not acceptable."""

    code = "invalid_text"


class UnsupportedPart(InvalidInput):
    """A message holds a kind of content that it cannot be sent with."""

    code = "unsupported_part"
    hint = "send it as text"


class AddressRefused(InvalidInput):
    """The address is not a public one."""

    code = "address_refused"
    hint = "only http and https on the internet are reached, and networks that were named"


class AttachmentRefused(InvalidInput):
    """The file is of a kind, or a size, that is not taken."""

    code = "attachment_refused"
    hint = "png, jpeg, webp, gif, pdf, plain text, wav, mp3, ogg, flac, m4a, webm"


class CannotAdopt(InvalidInput):
    """A session cannot go on with this thread: it is none, or its provider keeps none."""

    code = "cannot_adopt"
    hint = "adopt= takes conv_… or resp_… of provider openai"


class InvalidBatchFile(InvalidInput):
    """Lines of the file are not acceptable; nothing of it was submitted."""

    code = "invalid_batch_file"
    hint = 'a line is {"user_id" or "session", "text" or "messages", "custom_id"?, "model"?, …}'

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        problems: Sequence[tuple[int, str, str]] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        #: Of the first thousand lines with one: its number, a code and what is wrong in words.
        self.problems = tuple(problems)


class InvalidBill(InvalidInput):
    """The file is no bill that can be read; nothing was compared."""

    code = "invalid_bill"
    hint = "a CSV of costs or usage, as OpenAI and Anthropic export it"

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        problems: Sequence[tuple[int, str]] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class NotFound(TurnmillError, LookupError):
    """There is no such thing."""

    code = "not_found"


class SessionNotFound(NotFound):
    """There is no such session."""

    code = "session_not_found"
    hint = (
        "`turnmill sessions ls` lists them; `turnmill send --session KEY --user USER`,"
        " or client.sessions.create, makes one of a new key"
    )


class TurnNotFound(NotFound):
    """There is no such turn."""

    code = "turn_not_found"
    hint = "`turnmill turns ls` lists them"


class BatchNotFound(NotFound):
    """There is no such batch."""

    code = "batch_not_found"
    hint = "`turnmill batch ls` lists them"


class WebhookNotFound(NotFound):
    """There is no such webhook."""

    code = "webhook_not_found"
    hint = "`turnmill webhooks ls` lists them"


class ToolCallNotFound(NotFound):
    """The turn has made no such call."""

    code = "tool_call_not_found"
    hint = "`turn.tool_calls()` lists them, as does `turnmill turns show ID`"


class BudgetNotFound(NotFound):
    """There is no such budget."""

    code = "budget_not_found"
    hint = "`turnmill budget ls` lists them"


class LimitNotFound(NotFound):
    """Nothing limits this provider, or this model of it."""

    code = "limit_not_found"
    hint = "`turnmill limits ls` lists them: one of a model is removed with its name"


class AttachmentNotFound(NotFound):
    """The user has no such attachment, or no longer."""

    code = "attachment_unknown"
    hint = "`turnmill files ls` lists them; give the file itself, and it is kept anew"


class TemplateNotFound(NotFound):
    """There is no such template, or no such version of it."""

    code = "template_not_found"
    hint = "`turnmill templates ls` lists them, `turnmill templates show NAME` its versions"


class TrialNotFound(NotFound):
    """There is no such trial."""

    code = "trial_not_found"
    hint = "`turnmill trials ls` lists them"


class ExperimentNotFound(NotFound):
    """There is no such experiment."""

    code = "experiment_not_found"
    hint = "`turnmill experiments ls` lists them"


class UserNotFound(NotFound):
    """Nothing is known of such a user, and nothing ever was."""

    code = "user_not_found"
    hint = "ids of users are what sessions are created with, letter by letter"


class ScheduleNotFound(NotFound):
    """There is no such schedule."""

    code = "schedule_not_found"
    hint = "`turnmill schedules ls` lists them"


class Conflict(TurnmillError):
    """It does not go together with what stands."""

    code = "conflict"


class SessionArchived(Conflict):
    """The session is archived and takes no messages."""

    code = "session_archived"
    hint = "`turnmill sessions restore` lets it take them again; or create a new session"


class IdempotencyConflict(Conflict):
    """The idempotency key stands for a message with other content."""

    code = "idempotency_conflict"
    hint = "use a new key for a new message"


class MoveRefused(Conflict):
    """The state does not allow it."""

    code = "move_refused"


class NotAParticipant(Conflict):
    """The session has no participant of this name."""

    code = "not_a_participant"
    hint = (
        "`turnmill participants ls` lists them, `turnmill participants add` lets one more take part"
    )


class RoleForbids(Conflict):
    """The participant's role does not allow it."""

    code = "role_forbids"
    hint = "an observer follows, a member also speaks, an owner also adds and removes others"


class VersionConflict(Conflict):
    """The session is of another version by now: somebody has changed it meanwhile."""

    code = "version_conflict"
    hint = "get the session again, and decide anew: its `version` is what if_version= takes"

    def __init__(self, message: str = "", *, version: int | None = None) -> None:
        super().__init__(message)
        self.version = version  #: as it stands


class ContentGone(Conflict):
    """What was said in the turn is gone: its time was over."""

    code = "content_gone"
    hint = "figures are left; TURNMILL_KEEP_CONTENT_DAYS and keep_content= say for how long"


class BatchPurged(Conflict):
    """What the lines of the batch came to is gone: its time was over."""

    code = "batch_purged"
    hint = "counts are left; replies are in the sessions of its turns: TURNMILL_KEEP_BATCHES_DAYS"


class BudgetExceeded(Conflict):
    """A batch may cost more than a budget has left; nothing of it runs."""

    code = "budget_exceeded"
    hint = "`turnmill budget ls`; raise the limit, submit fewer lines, or say max_output_tokens"


class UserOnHold(Conflict):
    """Nobody may delete what is kept of the user: somebody has to be able to look at it yet."""

    code = "user_on_hold"
    hint = "`turnmill users release` ends a hold"


class ToolCallExpired(MoveRefused):
    """The call has expired: the model was told so, and goes on without it."""

    code = "tool_call_expired"
    hint = 'give it more time: {"name": …, "expires": seconds}'


class OutputConflict(Conflict):
    """The call has another output already."""

    code = "output_conflict"
    hint = "the first one stands: the model may have read it"


class QueueFull(TurnmillError):
    """Too many unfinished turns."""

    code = "queue_full"
    hint = "wait until workers have caught up, or raise the bound"

    def __init__(
        self, message: str = "", *, retry_after: timedelta, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class FilesQuotaExceeded(Conflict):
    """The files of the user would be more than may be kept."""

    code = "files_quota_exceeded"
    hint = "delete some, or raise TURNMILL_FILES_QUOTA"


class NotReached(TurnmillError):
    """Nobody answers there, or not in time."""

    code = "not_reached"
    hint = "try again, or give the file itself"


class BegunBeforeFork(TurnmillError):
    """This was begun before a fork, and belongs to the parent process."""

    code = "begun_before_fork"
    hint = "begin it again in this process; clients that were made before a fork can be used"
