"""A pipeline that is cancelled, in the middle of a trial."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from fake_control import fake_control
from stoker.nouns.home import Home

FUNCTION = """\
metadata: {name: embedder}
spec: {handler: "code:handler", runtime: python}
"""
QUALITY = """\
candidates: [{name: near}]
sets:
  - {name: all, kind: labels, source: rows.csv, columns: {text: text, label: label},
     ask: {body: {texts: $texts}, answer: embeddings, items: 1, concurrency: 1},
     metrics: [{name: accuracy, max_drop: 0}]}
goal: fastest
"""


def test_a_run_that_is_terminated_leaves_no_trial_behind(tmp_path: Path) -> None:
    (tmp_path / "function.yaml").write_text(FUNCTION)
    (tmp_path / "code.py").write_text("")
    (tmp_path / "quality.yaml").write_text(QUALITY)
    rows = "\n".join(f"row {i},{i % 2}" for i in range(50))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}\n")
    asked, permits = threading.Event(), threading.Semaphore(0)

    def answer(texts: list[str], _env: dict[str, str]) -> list[Any]:
        asked.set()
        permits.acquire(timeout=30)  # the one in flight may end; a second would wait
        return texts

    with fake_control(answer) as fake:
        home = Home.at(tmp_path / "h")
        home.run.mkdir(parents=True)
        endpoints = {"control_url": fake.url, "gateway_url": fake.url}
        home.endpoints.write_text(json.dumps(endpoints))
        command = [sys.executable, "-m", "stoker.cli.main", "ci", "quantize"]
        process = subprocess.Popen(
            [*command, "--path", str(tmp_path), "--home", str(home.root)],
            env={**os.environ, "STOKER_URL": ""}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert asked.wait(60)
            assert list(fake.functions) == ["embedder-trial-reference"]
            process.send_signal(signal.SIGTERM)
            permits.release()
            assert process.wait(60) == 130
        finally:
            process.kill()
            process.wait()
        assert fake.functions == {}
        assert len(fake.asked) < 50
