"""Rank 0 and its peers, the peers being processes that only wait."""

from __future__ import annotations

import gc
import json
import os
import queue
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers

from stoker.models.parallel.crew import Crew, Peer
from stoker.models.parallel.message import Message
from stoker.models.parallel.mirror import mirrored
from stoker.nouns.errors import UnusableModel

pytestmark = pytest.mark.models


class Lost(Exception):
    """In place of the end of this process."""


class Waiting:
    """A crew of one peer that does nothing; the test speaks for it."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.process = subprocess.Popen(["sleep", "600"])
        self.process.returncode = 0  # the crew reaps it
        self.told: queue.Queue[str] = queue.Queue()
        self.crew = Crew([Peer(1, self.process.pid, ours)], self._lost)

    def _lost(self, why: str) -> None:
        self.told.put(why)
        if threading.current_thread() is threading.main_thread():
            raise Lost(why)

    def answers(self, document: dict[str, Any]) -> None:
        Message(document).send(self.theirs)

    def hears(self) -> dict[str, Any]:
        found = Message.receive(self.theirs)
        assert found is not None
        return found.document


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    made = Waiting()
    yield made
    made.crew.close()
    made.theirs.close()
    try:
        os.kill(made.process.pid, 9)
        os.waitpid(made.process.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_a_peer_that_dies_is_told_at_once_even_while_nothing_is_asked(waiting: Waiting) -> None:
    os.kill(waiting.process.pid, 9)
    said = waiting.told.get(timeout=60)
    assert said == f"rank 1 of 2 (pid {waiting.process.pid}) was killed by signal 9"


def test_an_orderly_end_is_no_loss(waiting: Waiting) -> None:
    waiting.crew.close()
    assert Message.receive(waiting.theirs) is None, "which is how the peer learns of it"
    os.kill(waiting.process.pid, 9)
    with pytest.raises(queue.Empty):
        waiting.told.get(timeout=0.2)


def test_a_peers_refusal_is_told_in_its_words(waiting: Waiting) -> None:
    waiting.answers({"error": "no room on the card"})
    with pytest.raises(UnusableModel, match=r"rank 1 of 2: no room on the card"):
        waiting.crew.ask({"op": "load"}, within_s=60)
    assert waiting.hears() == {"op": "load"}


def test_a_peer_that_does_not_answer_in_time_costs_the_worker(waiting: Waiting) -> None:
    with pytest.raises(Lost, match=r"a peer did not answer within 0.01 s"):
        waiting.crew.ask({"op": "load"}, within_s=0.01)


class Echo(torch.nn.Module):
    """A model that gives back its input and grows its cache by a token."""

    def forward(self, input_ids: Any, past_key_values: Any = None) -> Any:
        if past_key_values is not None:
            state = torch.zeros(1, 1, 1, 1)
            past_key_values.update(state, state, 0)
        if input_ids.numel() == 0:
            raise MemoryError("nothing here")
        return input_ids


@pytest.fixture
def echo(waiting: Waiting) -> Any:
    return mirrored(Echo(), 7, waiting.crew, "cpu")


def test_every_call_is_told_before_it_is_made(waiting: Waiting, echo: Any) -> None:
    assert echo(input_ids=torch.tensor([[4]])).tolist() == [[4]]
    told = waiting.hears()
    assert (told["op"], told["module"]) == ("forward", 7)
    assert told["kwargs"]["dict"]["input_ids"]["tensor"]["shape"] == [1, 1]


def test_a_cache_keeps_its_number_and_is_dropped_with_the_next_call(
    waiting: Waiting, echo: Any
) -> None:
    one = torch.tensor([[4]])
    cache = transformers.DynamicCache()
    echo(one, past_key_values=cache)
    echo(one, past_key_values=cache)
    numbers = [waiting.hears()["kwargs"]["dict"]["past_key_values"] for _ in range(2)]
    assert numbers == [{"cache": 1}, {"cache": 1}]
    del cache
    gc.collect()
    echo(one)
    assert waiting.hears()["drop"] == [1]
    echo(one)
    assert waiting.hears()["drop"] == []


def test_a_cache_that_another_call_filled_is_refused_before_anybody_is_told(
    waiting: Waiting, echo: Any
) -> None:
    cache = transformers.DynamicCache()
    cache.update(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), 0)
    with pytest.raises(UnusableModel, match="that another call made"):
        echo(torch.tensor([[4]]), past_key_values=cache)
    waiting.theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        waiting.theirs.recv(1)


def test_a_call_that_fails_here_while_a_peer_still_waits_in_it_ends_the_worker(
    waiting: Waiting, echo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stoker.models.parallel.mirror.SETTLE_S", 0.01)
    with pytest.raises(Lost, match="this rank failed alone: MemoryError: nothing here"):
        echo(torch.zeros(1, 0))
    assert [waiting.hears()["op"] for _ in range(2)] == ["forward", "settle"]


@pytest.mark.parametrize(("together", "raised"), [(True, MemoryError), (False, Lost)])
def test_a_call_that_all_ranks_failed_goes_on_only_if_they_still_meet(
    waiting: Waiting,
    echo: Any,
    monkeypatch: pytest.MonkeyPatch,
    together: bool,
    raised: type[Exception],
) -> None:
    monkeypatch.setattr("stoker.models.parallel.mirror.in_step", lambda *_: together)
    waiting.answers({"done": "settle"})
    with pytest.raises(raised):
        echo(torch.zeros(1, 0))


def test_messages_are_json(waiting: Waiting, echo: Any) -> None:
    echo(torch.tensor([[4]]))
    head = waiting.theirs.recv(8)
    text = waiting.theirs.recv(int.from_bytes(head[:4], "big"))
    assert json.loads(text)["op"] == "forward"
