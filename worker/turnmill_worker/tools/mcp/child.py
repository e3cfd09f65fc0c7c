"""Runs the program of an MCP server and never lets it outlive the worker: run as a script.

`python child.py WORKER COMMAND [ARGUMENT…]`, in a process group of its own. The server has our
stdin, stdout and stderr. Nothing of ours is imported: each server costs one such process.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_LOOK_EVERY = 0.5  #: seconds
_PATIENCE = 2.0  #: seconds, for a server that is told to end


def main(worker: int, command: list[str]) -> int:
    """Return the exit code of the server, once it has ended."""
    try:
        server = subprocess.Popen(command)
    except OSError:
        return 127
    # From here on only the server is told, and only it holds the ends of the pipes.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    threading.Thread(target=_end_with, args=(worker,), daemon=True).start()
    code = server.wait()
    os.killpg(0, signal.SIGTERM)  # whatever it has left behind
    return code


def _end_with(worker: int) -> None:
    """End the whole process group when the worker is gone, however it went."""
    while os.getppid() == worker:
        time.sleep(_LOOK_EVERY)
    os.killpg(0, signal.SIGTERM)
    time.sleep(_PATIENCE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
