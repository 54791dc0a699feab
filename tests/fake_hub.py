"""A server on this machine that speaks the part of the Hugging Face hub's protocol that its client asks for."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repository:
    """What the server holds under one name, and how it misbehaves."""

    data: bytes = b""
    status: int = 200  # of every answer
    code: str = ""  # the hub's X-Error-Code
    sent: bytes | None = None  # what is sent instead of ``data``, under the ETag of ``data``
    cuts: list[int] = field(default_factory=list)  # the next transfers break off after so many bytes
    etag: bool = True


@dataclass
class FakeHub:
    """``repositories`` by name; ``asked`` is every request as (method, path, Range)."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""
    storage: str = ""  # the same server under another host's name, as the hub keeps its large files elsewhere

    def add(self, name: str, data: bytes = b"", **behaviour: object) -> Repository:
        self.repositories[name] = Repository(data, **behaviour)  # type: ignore[arg-type]
        return self.repositories[name]

    def transfers(self) -> list[str | None]:
        """The Range of every request for contents."""
        return [wanted for method, path, wanted in self.asked if method == "GET" and path.startswith("/storage/")]


class _Answer(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        self.hub.asked.append((self.command, self.path, self.headers.get("Range")))
        found = re.fullmatch(r"/(storage/)?([^/]+/[^/]+)/resolve/main/model\.safetensors", self.path)
        repository = self.hub.repositories.get(found[2]) if found else None
        if repository is None:
            return self._say(404, {"X-Error-Code": "RepoNotFound"})
        if repository.status != 200:
            return self._say(repository.status, {"X-Error-Code": repository.code} if repository.code else {})
        if found and found[1]:
            return self._transfer(repository)
        headers = {"X-Linked-Size": str(len(repository.data)), "Location": f"{self.hub.storage}/storage{self.path}"}
        if repository.etag:
            digest = hashlib.sha256(repository.data).hexdigest()
            headers |= {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{digest}"'}
        return self._say(302, headers)

    def _transfer(self, repository: Repository) -> None:
        data = repository.data if repository.sent is None else repository.sent
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if repository.cuts and self.command == "GET":
            self.wfile.write(data[start : start + repository.cuts.pop(0)])
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(data[start:])

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers until the block ends."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answer", (_Answer,), {"hub": hub}))
    hub.endpoint, hub.storage = (f"http://{host}:{server.server_port}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def point_client(monkeypatch: pytest.MonkeyPatch, endpoint: str, home: Path, *, offline: bool = False) -> None:
    """Set in this process what the client reads from HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when it is imported."""
    from huggingface_hub import constants

    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_URL_HOSTS", frozenset({"127.0.0.1"}))
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
