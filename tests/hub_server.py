"""A server on this machine that plays the Hugging Face Hub: whole, cut, refused, written to."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Pages with files.

    Attributes:
        pages: ``owner/name`` (``datasets/owner/name``) -> file -> content; of another branch than
            main ``owner/name@branch``.
        requests: verb, file and Range of every request.
        cut_at: closes the connection after that many bytes of a file.
        lies: announces the sha256 of other bytes.
        redirects: to another address, as the hub does for large files.
        token: of the one who may write; None: nobody may.
        stored: large files on their way to a page, by sha256.
    """

    daemon_threads = True

    def __init__(self, pages: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.pages = pages
        self.requests: list[tuple[str, str, str | None]] = []
        self.cut_at: int | None = None
        self.lies = False
        self.redirects = False
        self.token: str | None = None
        self.stored: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def gets(self) -> list[tuple[str, str | None]]:
        return [(file, span) for verb, file, span in self.requests if verb == "GET"]

    def find(self, path: str) -> tuple[str, bytes | str]:
        """File and content of an address, or the hub's word for what is missing."""
        match = re.fullmatch(r"(?:/cdn)?/(.+)/resolve/([^/]+)/(.+)", path)
        assert match is not None, path
        files = self.files(match[1], match[2])
        return match[3], files if isinstance(files, str) else files.get(match[3], "EntryNotFound")

    def files(self, page: str, revision: str) -> dict[str, bytes] | str:
        """Files of a page, or the hub's word for what is missing."""
        if page not in self.pages:
            return "RepoNotFound"
        if revision in ("main", COMMIT):
            return self.pages[page]
        return self.pages.get(f"{page}@{unquote(revision)}", "RevisionNotFound")

    def tree(self, path: str) -> bytes | str:
        """What the hub's API lists of a dataset, as JSON."""
        match = re.fullmatch(r"/api/(.+)/tree/([^/]+)", path.partition("?")[0])
        if match is None:  # whether a page is there
            return "RepoNotFound"
        files = self.files(match[1], match[2])
        if isinstance(files, str):
            return files
        listed = [
            {"type": "file", "path": file, "size": len(data), "oid": COMMIT}
            for file, data in files.items()
        ]
        return json.dumps(listed).encode()

    def written(self, path: str, body: bytes) -> Any:
        """What the hub's API answers to those who write, as JSON; the page has the files then."""
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.pages.setdefault(name, {})
            return {"url": f"{self.url}/{name}", "private": asked.get("private")}
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if match := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            large = {True: "lfs", False: "regular"}
            files = [
                {
                    "path": file["path"],
                    "uploadMode": large[file["path"].endswith(".safetensors")],
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in json.loads(body)["files"]
            ]
            return {"files": files}
        if re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = json.loads(body)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}
            return {"transfer": "basic", "objects": objects}
        match = re.fullmatch(r"/api/models/(.+)/commit/main", path)
        assert match is not None, path
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.pages[match[1]][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.pages[match[1]][value["path"]] = self.stored[value["oid"]]
        return {"commitUrl": f"{self.url}/{match[1]}/commit/{COMMIT}", "commitOid": COMMIT}


class HubHandler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        data = self.body()
        assert self.path == f"/lfs/{hashlib.sha256(data).hexdigest()}"
        self.server.stored[self.path[5:]] = data
        self.reply(200, {"Content-Length": "0"})

    def do_POST(self) -> None:
        body, path = self.body(), self.path.partition("?")[0]
        self.server.requests.append(("POST", path, None))
        token = self.server.token
        if token is None or self.headers.get("Authorization") != f"Bearer {token}":
            self.reply(401, {"X-Error-Code": "Unauthorized", "Content-Length": "0"})
            return
        answer = json.dumps(self.server.written(path, body)).encode()
        sizes = {"Content-Length": str(len(answer)), "Content-Type": "application/json"}
        self.reply(200, sizes)
        self.wfile.write(answer)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self) -> None:
        span = self.headers.get("Range")
        if self.path.startswith("/api/"):
            file, data = "api", self.server.tree(self.path)
        else:
            file, data = self.server.find(self.path)
        self.server.requests.append((self.command, file, span))
        if isinstance(data, str):
            self.reply(404, {"X-Error-Code": data, "Content-Length": "0"})
            return
        sha256 = hashlib.sha256(data + b"!" * self.server.lies).hexdigest()
        if self.server.redirects and not self.path.startswith(("/cdn/", "/api/")):
            linked = {"X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
            place = {"Location": f"{self.server.url}/cdn{self.path}", "Content-Length": "0"}
            self.reply(302, {**linked, **place})
            return
        start = int(re.fullmatch(r"bytes=(\d+)-.*", span)[1]) if span else 0  # type: ignore[index]
        body = data[start:]
        sizes = {"Content-Length": str(len(body)), "Accept-Ranges": "bytes"}
        if self.command == "GET":  # a client that did not know would ask on the closed connection
            sizes["Connection"] = "close"
        if span:
            sizes["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.reply(206 if span else 200, {"ETag": f'"{sha256}"', **sizes})
        if self.command == "GET":
            cut_at = None if file == "api" else self.server.cut_at
            self.wfile.write(body if cut_at is None else body[: max(cut_at - start, 0)])
            self.close_connection = True

    def reply(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def serving(pages: dict[str, dict[str, bytes]]) -> Iterator[Hub]:
    """A hub of these pages, until the block ends."""
    server = Hub(pages)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving_alone(monkeypatch: pytest.MonkeyPatch, cache: Path, *, token: str) -> Iterator[Hub]:
    """An empty hub that the owner of a token may write; every address but its own is refused."""
    connect = socket.socket.connect

    def here(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", here)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_TOKEN", token)
    with serving({}) as server:
        server.token = token
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server
