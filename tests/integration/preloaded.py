"""Clients made and used in a server's main process, which then forks its workers: `--preload`."""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from turnmill import AsyncClient, Client

Respond = Callable[[str, list[tuple[str, str]]], Any]


class Preloaded:
    """Both clients, as the environment says, with a thread that goes on using one of them."""

    def __init__(self) -> None:
        self._client = Client.from_env()
        self._on_loops = AsyncClient.from_env()
        asyncio.run(self._read_on_a_loop(self._client.sessions.list()[0].id))
        threading.Thread(target=self._go_on, daemon=True).start()

    def texts(self, kind: str, session: str) -> list[str]:
        """Return what was said in the session."""
        if kind == "blocking":
            return [message.text for message in self._client.sessions.history(session)]
        return asyncio.run(self._read_on_a_loop(session))

    async def _read_on_a_loop(self, session: Any) -> list[str]:
        return [message.text async for message in self._on_loops.sessions.history(session)]

    def _go_on(self) -> None:
        pause = threading.Event()
        while not pause.wait(0.01):
            self._client.sessions.list()


def make() -> Callable[[dict[str, Any], Respond], Iterable[bytes]]:
    """Return a WSGI application that answers /KIND/SESSION with its process and the texts."""
    preloaded = Preloaded()

    def application(environ: dict[str, Any], respond: Respond) -> Iterator[bytes]:
        _, kind, session = environ["PATH_INFO"].split("/")
        said = {"pid": os.getpid(), "texts": preloaded.texts(kind, session)}
        respond("200 OK", [("Content-Type", "application/json")])
        yield json.dumps(said).encode()

    return application
