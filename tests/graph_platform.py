"""Graphs of mlrun on a whole platform, for the end-to-end tests."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import httpx

from live_platform import Platform, eventually

PROJECT = "p"
SETTLED = ("ready", "scaledToZero", "error", "unhealthy")


class GraphPlatform:
    """A running platform, and the verbs that graphs need."""

    def __init__(self, platform: Platform, control_key: str = "", data_key: str = "") -> None:
        assert platform.endpoints is not None
        self.platform = platform
        self.control_url = platform.endpoints.control_url
        self.gateway_url = platform.endpoints.gateway_url
        headers = {"X-API-Key": control_key} if control_key else {}
        self.control = httpx.Client(timeout=60, trust_env=False, headers=headers)
        headers = {"X-API-Key": data_key} if data_key else {}
        self.data = httpx.Client(timeout=60, trust_env=False, headers=headers)

    def deploy(self, document: dict[str, Any]) -> dict[str, Any]:
        """Deploys a Nuclio config; its status once it has settled."""
        url = f"{self.control_url}/api/functions"
        headers = {"x-nuclio-project-name": PROJECT}
        posted = self.control.post(url, json=document, headers=headers)
        assert posted.status_code == 202, posted.text
        return eventually(lambda: self._settled(f"{url}/{document['metadata']['name']}"), 120)  # type: ignore[no-any-return]

    def _settled(self, url: str) -> dict[str, Any] | None:
        found: dict[str, Any] = self.control.get(url).json()["status"]
        return found if found["state"] in SETTLED else None

    def function(self, name: str, code: str, **spec: Any) -> None:
        """Deploys a function of the project ``p`` from its source."""
        source = base64.b64encode(code.encode()).decode()
        status = self.deploy(
            {
                "metadata": {
                    "name": f"{PROJECT}-{name}",
                    "labels": {"nuclio.io/project-name": PROJECT},
                },
                "spec": {
                    "handler": "main:handler",
                    "runtime": "python",
                    "build": {"functionSourceCode": source},
                    **spec,
                },
            }
        )
        assert status["state"] == "ready", status.get("message")

    def graph(
        self,
        name: str,
        build: Callable[[Any], Any],
        *,
        code: str = "",
        topology: str = "flow",
        engine: str | None = "async",
        streaming: bool = False,
        **spec: Any,
    ) -> None:
        """Deploys a graph; ``build`` gets the flow, or the router, and adds to it."""
        import mlrun

        from stoker.api.mlrun.compile import compile_function
        from stoker.api.mlrun.function_object import FunctionObject

        made = mlrun.new_function(name, kind="serving", project=PROJECT, image="none")
        if code:
            made.spec.build.functionSourceCode = base64.b64encode(code.encode()).decode()
        build(made.set_topology(topology, **({"engine": engine} if topology == "flow" else {})))
        if streaming:
            made.set_streaming()
        document = compile_function(FunctionObject.read(made.to_dict(), PROJECT, name)).document
        env = [*document["spec"].get("env", []), *spec.pop("env", [])]
        document["spec"].update(spec, env=env)
        status = self.deploy(document)
        assert status["state"] == "ready", status.get("message")

    def ask(self, name: str, body: Any = None, path: str = "", **headers: str) -> httpx.Response:
        """Posts to a function."""
        url = f"{self.gateway_url}/{PROJECT}-{name}{path}"
        return self.data.post(url, json=body, headers=headers)

    def workers(self, name: str) -> list[int]:
        """The pids of a function's workers."""
        replicas = self.control.get(f"{self.control_url}/api/stoker/ps").json()["replicas"]
        return [
            worker["pid"]
            for replica in replicas
            if replica["function"] == f"{PROJECT}-{name}"
            for worker in replica["workers"]
        ]

    def close(self) -> None:
        self.control.close()
        self.data.close()


def timed(call: Callable[[], httpx.Response]) -> tuple[httpx.Response, float]:
    """A reply, and the seconds that it took."""
    began = time.monotonic()
    return call(), time.monotonic() - began
