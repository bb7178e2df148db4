"""A platform for quality runs, in one thread: functions that are Python, over both real ports.

It keeps what is deployed, tells it as the control port does, and answers a function's requests with
what ``answer(texts, env)`` gives.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[str], dict[str, str]], list[Any]]


class Broken(Exception):
    """A deploy that does not become ready, with this as its reason."""


class FakeControl:
    """Attributes: what it keeps and what was done; ``check`` is asked at each deploy.

    ``history`` and ``canary`` are what the rollouts' resource tells.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.functions: dict[str, dict[str, Any]] = {}
        self.revisions: dict[str, int] = {}
        self.done: list[str] = []
        self.asked: list[str] = []
        self.check: Callable[[dict[str, Any]], None] = lambda document: None
        self.took_ms: Callable[[dict[str, str]], float] = lambda env: 5.0
        self.canary: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self.looks = 0
        self.on_look: Callable[[int], None] = lambda look: None
        self.url = ""

    @property
    def trials(self) -> list[str]:
        """Those that were deployed to be measured, in order."""
        return [
            line.split()[1]
            for line in self.done
            if line.startswith("deploy ") and "-trial-" in line
        ]

    def deploy(self, name: str, document: dict[str, Any]) -> None:
        """As PUT does."""
        self.done.append(f"deploy {name}")
        revision = self.revisions[name] = self.revisions.get(name, 0) + 1
        state, message = "ready", ""
        try:
            self.check(document)
        except Broken as exc:
            state, message = "error", str(exc)
        logs = [
            {"time": 1000.0, "level": "info", "message": f"built revision {revision}"},
            {"time": 1250.0, "level": "info", "message": f"revision {revision} serves"},
        ]
        status = {
            "state": state, "message": message, "logs": logs, "revision": revision,
            "servingRevision": revision if state == "ready" else None, "model": None,
        }  # fmt: skip
        self.functions[name] = {**document, "status": status}


def env_of(document: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in document["spec"].get("env") or []}


@contextmanager
def fake_control(answer: Answer) -> Iterator[FakeControl]:
    """Runs one on a free port."""
    fake = FakeControl(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: apart, the second waits 40 ms for an ACK

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            if query == "export=true":
                found = fake.functions[path.rpartition("/")[2]]
                self.tell({"metadata": found["metadata"], "spec": found["spec"]})
            elif path == "/api/functions":
                self.tell(fake.functions)
            elif path == "/api/projects":
                self.tell({"default": {}})
            elif path == "/api/stoker/top":
                self.tell({"devices": []})
            elif path == "/api/stoker/ps":
                workers = [{"pssBytes": 1000}, {"pssBytes": 3000}]
                rows = [{"function": name, "workers": workers} for name in fake.functions]
                self.tell({"replicas": rows})
            elif path.startswith("/api/rollouts/"):
                fake.looks += 1
                fake.on_look(fake.looks)
                self.tell({"canary": fake.canary, "history": fake.history})
            else:
                name = path.removesuffix("/deployment").rpartition("/")[2]
                found = fake.functions.get(name)
                if found is None:
                    self.tell({"error": f"no function {name}"}, 404)
                else:
                    self.tell(found | {"settled": True})

        def do_PUT(self) -> None:
            name = self.path.rpartition("/")[2]
            fake.deploy(name, self.body())
            self.tell({}, 202, **{"X-Stoker-Revision": str(fake.revisions[name])})

        def do_DELETE(self) -> None:
            name = self.path.rpartition("/")[2]
            fake.done.append(f"delete {name}")
            self.tell({}, 200 if fake.functions.pop(name, None) else 404)

        def do_POST(self) -> None:
            name = self.path.split("/")[1]
            texts = self.body()["texts"]
            fake.asked += texts
            env = env_of(fake.functions[name])
            try:
                answers = fake.answer(texts, env)
            except Exception as exc:
                self.tell({"error": {"message": str(exc)}}, 500)
                return
            timing = f"queue;dur=0.1, handler;dur={fake.took_ms(env)}"
            self.tell({"embeddings": answers}, **{"Server-Timing": timing})

        def body(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def tell(self, document: Any, status: int = 200, **headers: str) -> None:
            body = json.dumps(document).encode() + b"\n"
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
