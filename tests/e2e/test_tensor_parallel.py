"""A worker whose model is split over two simulated cards, on a whole platform."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import tiny_tasks
from live_platform import Platform, eventually, home_of_its_own, platform_of_its_own
from stoker.models.load import load
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.timeout(600)]

NAME = "split"
ASKED: dict[str, Any] = {"inputs": ["hello"], "parameters": {"max_new_tokens": 12}}
LONG: dict[str, Any] = {"inputs": ["hello"], "parameters": {"max_new_tokens": 4000}}
CONTEXT = 4096


def spec(model: Path, **changed: str) -> dict[str, Any]:
    env = {
        "STOKER_MODEL": str(model),
        "STOKER_TASK": "text-generation",
        "STOKER_TENSOR_PARALLEL": "2",
        **changed,
    }
    return {
        "handler": "stoker.models.serve:handler",
        "minReplicas": 0,
        "maxReplicas": 1,
        "scaleToZero": {"scaleResources": [{"windowSize": "600s"}]},
        "resources": {"limits": {"nvidia.com/gpu": 2}},
        "env": [{"name": name, "value": value} for name, value in env.items()],
    }


@pytest.fixture(scope="module")
def model() -> Iterator[Path]:
    with home_of_its_own() as folder:
        tiny_tasks.llama(folder / "model", context=CONTEXT)
        yield folder / "model"


@pytest.fixture(scope="module")
def cards(model: Path) -> Iterator[Platform]:
    with platform_of_its_own() as made:
        made.settles_within_s = 240
        made.up(devices="sim:2x16GiB", zygotes=("plain", "torch"))
        settled = made.deploy(NAME, "", **spec(model))
        assert settled["state"] in ("ready", "scaledToZero"), settled
        yield made


def ask(cards: Platform, body: dict[str, Any] = ASKED) -> httpx.Response:
    return cards.call(NAME, json.dumps(body).encode(), **{"Content-Type": "application/json"})


def worker(cards: Platform) -> psutil.Process:
    """Rank 0 of the one worker, once it is ready."""
    assert cards.endpoints is not None
    url = f"{cards.endpoints.control_url}/api/stoker/ps"

    def ready() -> psutil.Process | None:
        replicas = cards.client.get(url).json()["replicas"]
        found = [one for replica in replicas for one in replica["workers"]]
        pids = [one["pid"] for one in found if one["phase"] == "ready"]
        return psutil.Process(pids[0]) if pids and psutil.pid_exists(pids[0]) else None

    assert ask(cards).status_code == 200
    process: psutil.Process = eventually(ready)
    return process


def pinned(process: psutil.Process) -> str:
    """The cards that the kernel shows a process to be pinned to."""
    block = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    return next(one for one in block if one.startswith(b"CUDA_VISIBLE_DEVICES=")).decode()


def spent_s(process: psutil.Process) -> float:
    return float(process.cpu_times().user)


def all_gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != "zombie" for one in processes)


def test_it_writes_what_one_process_writes(cards: Platform, model: Path, tmp_path: Path) -> None:
    reply = ask(cards)
    assert reply.status_code == 200, reply.text
    told = {"STOKER_MODEL": str(model), "STOKER_TASK": "text-generation"}
    alone = load(ModelSettings.read(told), Home.at(tmp_path))
    assert reply.json()["outputs"] == alone(ASKED["inputs"], ASKED["parameters"])


def test_each_rank_is_pinned_to_its_own_card_and_the_ledger_has_half_on_each(
    cards: Platform,
) -> None:
    zero = worker(cards)
    ranks = [zero, *zero.children()]
    assert len(ranks) == 2
    assert sorted(map(pinned, ranks)) == [
        "CUDA_VISIBLE_DEVICES=SIM-0",
        "CUDA_VISIBLE_DEVICES=SIM-1",
    ]
    assert cards.endpoints is not None
    top = cards.client.get(f"{cards.endpoints.control_url}/api/stoker/top").json()
    promised = [device["promised_bytes"] for device in top["devices"]]
    weights = next(cards.home.models.rglob("model.safetensors")).stat().st_size
    assert promised[0] == promised[1] > 0
    # Weights, cache and activations of a whole worker, a half each.
    assert weights / 2 < promised[0] < weights / 2 + 2**28


def test_what_its_ranks_say_to_each_other_stays_on_the_loopback_interface(
    cards: Platform,
) -> None:
    zero = worker(cards)
    heard = [
        connection.laddr.ip
        for process in (zero, *zero.children())
        for connection in process.net_connections("inet")
    ]
    assert heard
    assert set(heard) == {"127.0.0.1"}


def test_a_client_that_leaves_leaves_the_ranks_in_step(cards: Platform) -> None:
    before = ask(cards).json()["outputs"]
    pid = worker(cards).pid
    assert cards.endpoints is not None
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{cards.endpoints.gateway_url}/{NAME}", json=LONG, timeout=0.5, trust_env=False)
    assert ask(cards).json()["outputs"] == before
    assert worker(cards).pid == pid


def test_a_killed_peer_costs_the_request_in_hand_and_the_worker_is_replaced(
    cards: Platform,
) -> None:
    zero = worker(cards)
    (peer,) = zero.children()
    seen: list[httpx.Response] = []
    before = spent_s(zero)
    asking = threading.Thread(target=lambda: seen.append(ask(cards, LONG)))
    asking.start()
    eventually(lambda: spent_s(zero) > before + 0.3)  # it is in the midst of it
    os.kill(peer.pid, signal.SIGKILL)
    asking.join(timeout=60)
    assert [reply.status_code for reply in seen] == [502]
    assert seen[0].json()["error"]["code"] == "worker_lost"
    assert ask(cards).status_code == 200
    assert worker(cards).pid != zero.pid
    assert all_gone([zero, peer])


def test_a_killed_worker_leaves_no_peers(cards: Platform) -> None:
    zero = worker(cards)
    peers = zero.children()
    os.kill(zero.pid, signal.SIGKILL)
    eventually(lambda: all_gone(peers))
    # A request that had reached the dead one is lost with it: 502, as the contract says.
    eventually(lambda: ask(cards).status_code == 200)


def test_at_zero_none_of_its_ranks_is_left(cards: Platform) -> None:
    zero = worker(cards)
    ranks = [zero, *zero.children()]
    assert cards.endpoints is not None
    url = f"{cards.endpoints.control_url}/api/functions/{NAME}"
    cards.client.patch(url, json={"desiredState": "scaledToZero"}).raise_for_status()
    eventually(lambda: cards.client.get(f"{url}/replicas").json()["names"] == [])
    eventually(lambda: all_gone(ranks))
    assert ask(cards).headers["X-Stoker-Cold"] == "1"


def test_cards_that_do_not_suffice_are_refused_by_the_deploy(cards: Platform, model: Path) -> None:
    assert cards.endpoints is not None
    wanted = spec(model, STOKER_TENSOR_PARALLEL="3")
    document = {"metadata": {"name": "refused"}, "spec": wanted}
    url = f"{cards.endpoints.control_url}/api/functions"
    posted = cards.client.post(url, json=document)
    assert posted.status_code == 400
    assert "need 3 GPU(s), one each; the function has 2" in posted.text


def test_a_model_that_cannot_be_split_is_refused_by_its_build(
    cards: Platform, tmp_path: Path
) -> None:
    tiny_tasks.bert(tmp_path / "bert", "BertForMaskedLM")
    wanted = spec(tmp_path / "bert", STOKER_TASK="fill-mask")
    settled = cards.deploy("bert", "", **wanted)
    assert settled["state"] == "error"
    assert "no plan by which 'bert' is split" in settled["message"]
