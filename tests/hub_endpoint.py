"""A made-up Hugging Face Hub that is spoken to over HTTP by the Hub's own client; it keeps files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SHA = "0123456789abcdef0123456789abcdef01234567"
"""Of the only commit."""


class Hub(ThreadingHTTPServer):
    """What it was asked, and the files of each repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """The requests that pushing and fetching make."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(path)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.server.files.setdefault(name, {})
            self.server.private.setdefault(name, asked.get("visibility") == "private" or bool(asked.get("private")))
            self.answer({"url": f"{self.server.url}/{name}", "id": name})
        elif path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            names = [one["path"] for one in json.loads(body)["files"]]
            self.answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif "/commit/" in path:
            name = self.repository("/api/models/")
            there = self.server.files[name]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    there[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del there[line["value"]["path"]]
            self.answer(
                {"commitUrl": f"{self.server.url}/{name}/commit/{SHA}", "commitOid": SHA, "pullRequestUrl": None}
            )
        else:
            self.answer({"error": "no such address"}, 404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(path)
        if path == "/api/whoami-v2":
            self.answer({"name": "somebody", "type": "user", "orgs": []})
        elif path.startswith("/api/models/"):
            name = self.repository("/api/models/")
            there = self.server.files.get(name)
            if there is None:
                self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            elif "/tree/" in path:
                self.answer([{"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                             for file, data in there.items()])  # fmt: skip
            else:
                files = [{"rfilename": file} for file in there]
                self.answer(
                    {"id": name, "sha": SHA, "private": self.server.private[name], "siblings": files, "tags": []}
                )
        else:
            self.file()

    do_HEAD = do_GET

    def file(self) -> None:
        """The contents of a file."""
        name, _, rest = self.path.partition("?")[0].lstrip("/").partition("/resolve/")
        data = self.server.files.get(name, {}).get(rest.partition("/")[2])
        if data is None:
            self.answer({"error": "no such file"}, 404, {"X-Error-Code": "EntryNotFound"})
        else:
            self.answer(data, headers={"X-Repo-Commit": SHA, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'})

    def repository(self, before: str) -> str:
        return "/".join(self.path.partition("?")[0].removeprefix(before).split("/")[:2])

    def answer(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *words: Any) -> None:
        """Nothing."""


@contextmanager
def hub() -> Iterator[Hub]:
    """The Hub, as long as the block lasts."""
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
