"""Serves a worker's metrics over HTTP: on this machine only, unless told otherwise."""

import logging
import threading
from datetime import timedelta
from socketserver import BaseServer

from prometheus_client import CollectorRegistry, start_http_server

logger = logging.getLogger("turnmill.metrics")

#: A worker that is replaced holds the port until its last verdict is written.
_TRY_AGAIN_AFTER = timedelta(seconds=5)
#: Who connects and asks for nothing is hung up on.
_HANG_UP_AFTER = timedelta(seconds=10)


class MetricsServer:
    """A thread of a worker. A port that is taken costs its metrics, and never the worker."""

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        self._registry = registry
        self._host = host
        self._port = port
        self._ended = threading.Event()
        self._server: BaseServer | None = None
        self._thread = threading.Thread(target=self._run, name="turnmill-metrics", daemon=True)

    def start(self) -> None:
        """Begin to serve, as soon as the port is free."""
        self._thread.start()

    def stop(self) -> None:
        """Give the port back."""
        self._ended.set()
        self._thread.join(timeout=_TRY_AGAIN_AFTER.total_seconds())
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _run(self) -> None:
        said = False
        while not self._ended.is_set():
            try:
                self._serve()
            except OSError as error:
                if not said:
                    place, why = f"{self._host}:{self._port}", error.strerror or "no such host"
                    logger.error("metrics cannot be served on %s: %s; trying again", place, why)
                said = True
                self._ended.wait(_TRY_AGAIN_AFTER.total_seconds())
            else:
                return

    def _serve(self) -> None:
        server, _ = start_http_server(self._port, addr=self._host, registry=self._registry)
        server.RequestHandlerClass.timeout = _HANG_UP_AFTER.total_seconds()  # type: ignore[attr-defined]
        self._server = server
        logger.info("metrics are served on %s:%d", self._host, self._port)
