"""How conversations go wrong, as rows show it: kinds, and when a turn or session is of one."""

from enum import StrEnum

#: When a turn is of a kind.
LOOP_CALLS = 8  #: of one tool
RETRIED_ATTEMPTS = 3
SILENT_SECONDS = 60
AGAIN_SECONDS = 60


class Behaviour(StrEnum):
    """What turns have in common, without a look at what was said."""

    TOOL_LOOP = "tool_loop"  #: one tool was called eight times or more in a turn
    CUT_BY_LENGTH = "cut_by_length"  #: the reply was as long as it may be, and no longer
    RETRIED = "retried"  #: it took three attempts or more
    LONG_SILENCE = "long_silence"  #: somebody waited for a minute or more
    SENT_AGAIN = "sent_again"  #: its user wrote within a minute, before there was an answer
    FAILED = "failed"  #: there never was an answer
    GIVEN_UP = "given_up"  #: there was none, and nothing was said in the session after it
