"""Rank 0 of a split model in a process of its own, for the tests: prints what it saw as JSON.

A process of its own, since the process group is one a process, and since a lost peer ends it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import tiny_tasks
from stoker.models.host_copy import HostCopy
from stoker.models.load import load
from stoker.models.parallel import group
from stoker.models.parallel.crew import mustered
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

PROMPTS = ["hello", "the cat sat on the"]
GREEDY = {"max_new_tokens": 16, "temperature": 0}
SAMPLED = {"max_new_tokens": 12, "temperature": 0.9, "top_k": 20, "seed": 5}


def opened(folder: Path, ranks: int) -> Any:
    told = {
        "STOKER_MODEL": str(folder / "model"),
        "STOKER_TASK": "text-generation",
        "STOKER_TENSOR_PARALLEL": str(ranks),
    }
    return load(ModelSettings.read(told), Home.at(folder / "home"))


def noted(folder: Path) -> list[int]:
    """The peers' pids, left in a file for whoever looks whether they outlive this process."""
    crew = mustered()
    assert crew is not None
    pids = [peer.pid for peer in crew.peers]
    (folder / "peers").write_text(json.dumps(pids))
    return pids


def module_of(task: Any) -> Any:
    return task._writer._module


def compared(folder: Path, ranks: int) -> dict[str, Any]:
    """What all ranks answer beside what one process does."""
    whole, split = opened(folder, 1), opened(folder, ranks)
    ids = torch.arange(2, 26).reshape(2, 12)
    with torch.inference_mode():
        differ = module_of(whole)(input_ids=ids).logits - module_of(split)(input_ids=ids).logits
    found: dict[str, Any] = {"logits differ by": float(differ.abs().max())}
    second = opened(folder, ranks)
    split(PROMPTS, GREEDY)
    found["a second model"] = second(PROMPTS, GREEDY) == whole(PROMPTS, GREEDY)
    found["parameters"] = sum(
        one.to_local().numel() if hasattr(one, "to_local") else one.numel()
        for one in module_of(split).parameters()
    )
    found["parameters in all"] = sum(one.numel() for one in module_of(whole).parameters())
    for name, parameters in (("greedy", GREEDY), ("sampled", SAMPLED)):
        found[name] = [task(PROMPTS, parameters) for task in (whole, split)]
    found["uneven"] = [_uneven(task) for task in (whole, split)]
    found["streamed"] = [_pieces(task) for task in (whole, split)]
    _left_early(split)
    found["after one that was left"] = split(PROMPTS, GREEDY) == whole(PROMPTS, GREEDY)
    found["failed together"] = _failed(split)
    found["after a failure"] = split(PROMPTS, GREEDY) == whole(PROMPTS, GREEDY)
    _slept(split)
    found["after sleep"] = split(PROMPTS, GREEDY) == whole(PROMPTS, GREEDY)
    return found


def _uneven(task: Any) -> Any:
    """Texts of which one ends long before the other."""
    each = [task.options({**GREEDY, "max_new_tokens": count}) for count in (3, 16)]
    items = [task.read(prompt, own) for prompt, own in zip(PROMPTS, each, strict=True)]
    return task.run(items, each[0].shared())


def _pieces(task: Any) -> list[str]:
    return [piece.text for piece in tiny_tasks.pieces_of(task, PROMPTS[0], GREEDY)]


def _left_early(task: Any) -> None:
    """A stream whose client has gone after the second piece."""
    options = task.options({"max_new_tokens": 60})
    item = task.read(PROMPTS[1], options)
    steps = task.run_in_steps([item], options)
    next(steps)
    next(steps)
    task.leave(item)
    steps.close()


def _failed(task: Any) -> str:
    """A call that no rank can carry out."""
    try:
        module_of(task)(inputs_embeds=torch.zeros(1, 3, 5))
    except RuntimeError as exc:
        return str(exc)
    return ""


def _slept(task: Any) -> None:
    crew = mustered()
    assert crew is not None
    copy = HostCopy(module_of(task))
    crew.ask({"op": "sleep"}, 60)
    copy.sleep()
    crew.ask({"op": "wake"}, 60)
    copy.wake()


def peer_killed(folder: Path, ranks: int) -> dict[str, Any]:
    """Does not return."""
    split = opened(folder, ranks)
    os.kill(noted(folder)[-1], signal.SIGKILL)
    for _ in range(10_000):
        split(PROMPTS, GREEDY)
    return {}


def peer_hangs(folder: Path, ranks: int) -> dict[str, Any]:
    """Does not return."""
    group.COLLECTIVE_S = 5.0
    split = opened(folder, ranks)
    os.kill(noted(folder)[0], signal.SIGSTOP)
    split(PROMPTS, GREEDY)
    return {}


def failed_alone(folder: Path, ranks: int) -> dict[str, Any]:
    """Does not return."""
    split = opened(folder, ranks)
    noted(folder)

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError("only here")

    module_of(split).model.layers[1].mlp.forward = fail
    split(PROMPTS, GREEDY)
    return {}


CASES: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    one.__name__: one for one in (compared, peer_killed, peer_hangs, failed_alone)
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    case, where, count = sys.argv[1:]
    sys.stdout.write(json.dumps(CASES[case](Path(where), int(count))))
