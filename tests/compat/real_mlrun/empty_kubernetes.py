"""A Kubernetes with nothing in it.

From 1.7 on, MLRun's API server asks one for pods and config maps before it lets go of a function or a
project. It gets empty lists; whatever it writes is acknowledged and forgotten.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: empty
clusters: [{{name: empty, cluster: {{server: "{url}"}}}}]
contexts: [{{name: empty, context: {{cluster: empty, user: nobody}}}}]
users: [{{name: nobody, user: {{}}}}]
"""


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        last = self.path.partition("?")[0].rstrip("/").rpartition("/")[2]
        if last.endswith("s"):
            self._answer(200, {"kind": "List", "metadata": {}, "items": []})
        else:
            self._answer(404, {"kind": "Status", "status": "Failure", "code": 404})

    def do_POST(self) -> None:
        self._answer(201, json.loads(self._body() or b"{}"))

    def do_PUT(self) -> None:
        self._answer(200, json.loads(self._body() or b"{}"))

    def do_DELETE(self) -> None:
        self._body()
        self._answer(200, {"kind": "Status", "status": "Success"})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))


def start(folder: Path) -> Path:
    """The kubeconfig of an empty cluster on a loopback port; it ends with this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = folder / "kubeconfig"
    path.write_text(KUBECONFIG.format(url=f"http://127.0.0.1:{server.server_address[1]}"))
    return path
