"""A real Flower on a store of its own, and who looks at it over HTTP."""

import base64
import http.cookiejar
import json
import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import (
    HTTPCookieProcessor,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)

import psycopg

from turnmill.store.schema import migrate
from turnmill_worker.stack import ports
from turnmill_worker.stack.celery_parts import FLOWER_CONFIG, command_of
from turnmill_worker.stack.process import wait_until

OPERATOR, VIEWER = "olga:0f3a-9b1c-77de", "vera:77de-9b1c-0f3a"
SOON = timedelta(seconds=30)
_ROLE, _PASSWORD = "tab_viewer", "v-7d1e"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def words(self) -> str:
        """What a reader sees: no tags, no line breaks."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass
class Visitor:
    """A browser as far as HTTP goes: it keeps cookies and sends its login along."""

    base: str
    login: str = OPERATOR
    cookies: http.cookiejar.CookieJar = field(default_factory=http.cookiejar.CookieJar)
    trusts: ssl.SSLContext | None = None  #: for https

    def get(self, path: str) -> Answer:
        return self.send(path)

    def fresh(self, path: str) -> Answer:
        """Return a page that was read now: on a busy machine it may be what was read last."""
        found: list[Answer] = []

        def is_fresh() -> bool:
            found.append(self.get(path))
            return found[-1].status == 200 and "status-dot-error" not in found[-1].text

        assert wait_until(is_fresh, timeout=SOON), found[-1].text
        return found[-1]

    def json(self, path: str) -> Any:
        return json.loads(self.get(path).text)

    def send(self, path: str, form: Mapping[str, str] | None = None, **headers: str) -> Answer:
        request = Request(self.base + path, data=None if form is None else urlencode(form).encode())
        if self.login:
            login = base64.b64encode(self.login.encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        secure = HTTPSHandler(context=self.trusts)
        opener = build_opener(HTTPCookieProcessor(self.cookies), _Stay, secure)
        try:
            with opener.open(request, timeout=20) as answer:
                return Answer(answer.status, answer.read().decode(), dict(answer.headers))
        except HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode(), dict(error.headers))

    def form(self, path: str) -> dict[str, str]:
        """Return the fields of the form on a page."""
        page = self.get(path)
        assert page.status == 200, page.text
        fields = re.findall(
            r"<input type=\"hidden\" name=\"([^\"]+)\" value=\"([^\"]*)\"", page.text
        )
        return {name: unescape(value) for name, value in fields}

    def act(self, path: str) -> Answer:
        """Look at the preview, and do it."""
        return self.send("/turnmill/act", self.form(path))


def viewer_of(database_url: str, admin_url: str) -> str:
    """Return the URL of a role that may read what viewers may, and nothing else."""
    with psycopg.connect(admin_url, autocommit=True) as conn:
        if conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [_ROLE]).fetchone() is None:
            conn.execute(f"CREATE ROLE {_ROLE} LOGIN PASSWORD '{_PASSWORD}'")
    migrate.grant(database_url, schema="turnmill", runtime=None, viewer=_ROLE)
    return re.sub(r"//[^@]*@", f"//{_ROLE}:{_PASSWORD}@", database_url)


@contextmanager
def flower(
    *options: str,
    database_url: str = "",
    viewer_url: str,
    broker_url: str,
    log: Path,
    port: int = 0,
    **environ: str,
) -> Iterator[Visitor]:
    """Run Flower until the end of the block; without `database_url` it is a viewer, as in `up`."""
    port = port or ports.choose(0)
    given = (FLOWER_CONFIG, f"--port={port}", "--address=127.0.0.1", *options)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
    told = {
        **({"TURNMILL_DATABASE_URL": database_url} if database_url else {}),
        "TURNMILL_VIEWER_URL": viewer_url,
        "TURNMILL_BROKER_URL": broker_url,
        "TURNMILL_FLOWER_AUTH": OPERATOR,
        "TURNMILL_FLOWER_VIEWER_AUTH": VIEWER,
        **environ,
    }
    prefix = next((one.partition("=")[2] for one in options if "url-prefix" in one), "")
    visitor = Visitor(f"http://127.0.0.1:{port}" + (f"/{prefix}" if prefix else ""))
    with log.open("ab") as output:
        process = subprocess.Popen(
            command_of("flower", *given, app="turnmill_worker.app"),
            env={**env, **told},
            stdout=output,
            stderr=output,
            cwd=log.parent,
        )
        try:
            assert wait_until(lambda: _listens(visitor), timeout=SOON), log.read_text()
            yield visitor
        finally:
            process.send_signal(signal.SIGKILL)  # asked politely it can take seconds
            process.wait(timeout=10)


@contextmanager
def worker(database_url: str, broker_url: str, log: Path, *, slots: int = 50) -> Iterator[None]:
    """Run a worker until the end of the block."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNMILL_")}
    told = {"TURNMILL_DATABASE_URL": database_url, "TURNMILL_BROKER_URL": broker_url}
    name = f"--hostname={log.name}@%h"
    argv = command_of("worker", f"--concurrency={slots}", name, app="turnmill_worker.app")
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env={**env, **told}, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)


def memory_of(visitor: Visitor) -> float:
    """Return how much memory Flower holds, in bytes."""
    (line,) = [
        line
        for line in visitor.get("/metrics").text.splitlines()
        if line.startswith("process_resident_memory_bytes ")
    ]
    return float(line.split()[1])


def _listens(visitor: Visitor) -> bool:
    try:
        return visitor.get("/healthcheck").status == 200
    except (URLError, OSError):
        return False
