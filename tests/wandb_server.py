"""A server on this machine that plays W&B until the first numbers of a run arrive."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: The answer to who starts a run, without its name.
RUN = {
    "id": "cnVu",
    "displayName": "n",
    "config": "{}",
    "sweepName": None,
    "project": {"id": "p", "name": "imagegram", "entity": {"id": "e", "name": "me"}},
}


class VanishingServer(ThreadingHTTPServer):
    """Starts runs, and answers 500 from their first numbers on.

    Attributes:
        vanished: set when the first numbers have arrived.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), VanishingHandler)
        self.vanished = threading.Event()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that are gone."""


class VanishingHandler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: VanishingServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "file_stream" in self.path:
            self.server.vanished.set()
        data = json.dumps(self.found(body.decode(errors="replace"))).encode()
        self.send_response(500 if self.server.vanished.is_set() else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def found(self, query: str) -> Any:
        if "UpsertBucket" in query:
            bucket = RUN | {"name": json.loads(query)["variables"]["name"]}
            return {"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}}
        return {"data": {}}

    def log_message(self, *_: Any) -> None:
        """Write nothing."""


@contextmanager
def vanishing() -> Iterator[VanishingServer]:
    """Serve until the end of the block."""
    with VanishingServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
