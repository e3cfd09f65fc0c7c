"""Debian's RabbitMQ as a process of a test."""

import os
import shutil
import signal
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from turnmill_worker.stack import ports
from turnmill_worker.stack.process import wait_until

_PROGRAMS = Path("/usr/lib/rabbitmq/bin")
_READY_WITHIN = timedelta(seconds=90)


class RabbitServer:
    """A node of its own in a `with` block, with one user, who may do everything in `/`."""

    user, password = "turns", "p@ss/w:rd?"

    def __init__(self, folder: Path) -> None:
        if not (_PROGRAMS / "rabbitmq-server").exists() or shutil.which("erl") is None:
            pytest.skip("needs Debian's rabbitmq-server (apt-get install rabbitmq-server)")
        self.port = ports.choose(0)
        self.folder = folder / f"rabbit-{self.port}"
        self.folder.mkdir()
        self.log = self.folder / "log"
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        self.control("add_user", self.user, self.password)
        self.control("set_permissions", self.user, ".*", ".*", ".*")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        subprocess.run(
            ("epmd", "-port", self._environment["ERL_EPMD_PORT"], "-kill"),
            capture_output=True,
            check=False,
            timeout=10,
        )

    def start(self) -> None:
        """Return when it takes connections."""
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\n"
            "loopback_users.guest = true\nlog.console = true\nlog.file = false\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        (self.folder / "plugins").write_text("[].\n")
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                str(_PROGRAMS / "rabbitmq-server"),
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        ready = wait_until(self._is_ready, timeout=_READY_WITHIN)
        assert ready, self.log.read_text()[-3000:]

    def kill(self) -> None:
        """End it as a crash would."""
        if self._popen is not None:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            self._popen = None
            self.log.unlink()

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl."""
        done = subprocess.run(
            (str(_PROGRAMS / "rabbitmqctl"), *arguments),
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return os.environ | {
            "HOME": folder,  # of the cookie
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"turnmill{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.port + 1),
            "RABBITMQ_BASE": folder,
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "ERL_EPMD_PORT": str(self.port + 2),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def _is_ready(self) -> bool:
        assert self._popen is not None
        assert self._popen.poll() is None, self.log.read_text()[-3000:]
        return "Server startup complete" in self.log.read_text()
