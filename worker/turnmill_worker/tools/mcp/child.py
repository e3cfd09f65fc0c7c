"""Runs the program of an MCP server and never lets it outlive the worker: run as a script.

`python child.py WORKER LONGEST COMMAND [ARGUMENT…]`, in a process group of its own. The server has
our stdin and stderr; what it says is passed on, and the server is ended when a line of it has more
than LONGEST bytes: the worker would hold all of it. Nothing of ours is imported: each server costs
one such process.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_LOOK_EVERY = 0.5  #: seconds
_PATIENCE = 2.0  #: seconds, for a server that is told to end, and for its last words
_PIECE = 65_536


def main(worker: int, longest: int, command: list[str]) -> int:
    """Return the exit code of the server, once it has ended."""
    try:
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
    except OSError:
        return 127
    # From here on only the server is told, and only it holds the end of its stdin.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    threading.Thread(target=_end_with, args=(worker,), daemon=True).start()
    assert server.stdout is not None
    source = server.stdout.fileno()
    passing = threading.Thread(target=_pass_on, args=(source, longest), daemon=True)
    passing.start()
    code = server.wait()
    os.killpg(0, signal.SIGTERM)  # whatever it has left behind
    passing.join(_PATIENCE)
    return code


def _pass_on(source: int, longest: int) -> None:
    """Pass on what the server says, until it hangs up or nobody hears it, or a line is too long."""
    length = 0
    while piece := os.read(source, _PIECE):
        behind = piece.rfind(b"\n")
        longer = length + (len(piece) if behind < 0 else piece.index(b"\n"))
        length = longer if behind < 0 else len(piece) - behind - 1
        if longer > longest or not _written(piece):
            os.killpg(0, signal.SIGKILL)
    os.dup2(0, 1)  # it has hung up: so do we


def _written(piece: bytes) -> bool:
    try:
        while piece:
            piece = piece[os.write(1, piece) :]
    except OSError:
        return False
    return True


def _end_with(worker: int) -> None:
    """End the whole process group when the worker is gone, however it went."""
    while os.getppid() == worker:
        time.sleep(_LOOK_EVERY)
    os.killpg(0, signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
