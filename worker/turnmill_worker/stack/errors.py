"""What can go wrong when the whole stack is started on one machine.

TurnmillError
└── StackError
    ├── HomeInUse           another `turnmill up` holds this home
    ├── NoHome              there is nothing of `turnmill up` in this folder
    ├── HomeOfAnother       others may have written what stands in this home
    ├── BinaryMissing       no Postgres or Valkey to run
    ├── OutOfReach          Postgres must run as another user, who cannot get at its files
    └── DidNotStart         a program died too often, or took too long; its log is shown
"""

from turnmill.domain.errors import TurnmillError


class StackError(TurnmillError):
    """The stack could not be started."""

    code = "stack_error"


class HomeInUse(StackError):
    """Turnmill already runs on this home."""

    code = "home_in_use"
    hint = "use the one that runs, stop it, or choose another home with TURNMILL_HOME"


class NoHome(StackError):
    """There is nothing of `turnmill up` in this folder."""

    code = "no_home"
    hint = "name the home with --home or TURNMILL_HOME"


class HomeOfAnother(StackError):
    """Others may have written what stands in this home."""

    code = "home_of_another"
    hint = (
        "choose another one with TURNMILL_HOME; or, if it is yours all the same: chown, chmod go-w"
    )


class BinaryMissing(StackError):
    """A server's program was not found."""

    code = "binary_missing"
    hint = "pip install 'turnmill[embedded]'"


class OutOfReach(StackError):
    """The user that Postgres runs as cannot reach its files."""

    code = "out_of_reach"
    hint = "run as a user other than root, or choose another home with TURNMILL_HOME"


class DidNotStart(StackError):
    """A program of the stack could not be started."""

    code = "did_not_start"
    hint = "the end of its log says why; `turnmill doctor` looks at what is there"

    def __init__(self, message: str = "", *, log_tail: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail  #: the last lines of the program's own log
