"""Out of memory: once more at half the batch, then an error that names bytes, for whom it hits."""

import pytest

from stoker.models.lost import EXIT_LOST_CARD
from stoker.models.tasks.memory import attempt, bytes_wanted, is_out_of_memory
from stoker.nouns.errors import InsufficientStorage

HOST = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"
)
CARD = "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.10 GiB"


class Model:
    """Has room for so many items at once."""

    def __init__(self, room, error=None):
        self.room = room
        self.error = error or RuntimeError(HOST)
        self.batches = []

    def __call__(self, items):
        self.batches.append(list(items))
        if len(items) > self.room:
            raise self.error
        return [f"{item}!" for item in items]


def test_enough_memory_is_one_batch():
    model = Model(8)
    assert attempt(model, ["a", "b", "c"]) == ["a!", "b!", "c!"]
    assert model.batches == [["a", "b", "c"]]


def test_too_little_memory_is_tried_once_more_by_halves():
    model = Model(2)
    assert attempt(model, ["a", "b", "c"]) == ["a!", "b!", "c!"]
    assert model.batches == [["a", "b", "c"], ["a", "b"], ["c"]]


def test_what_does_not_fit_by_half_is_refused_and_only_that():
    model = Model(1)
    results = attempt(model, ["a", "b", "c"])
    assert [type(result) for result in results] == [InsufficientStorage, InsufficientStorage, str]
    assert model.batches == [["a", "b", "c"], ["a", "b"], ["c"]]
    refusal = results[0]
    assert refusal.status == 507
    assert refusal.detail["bytes_wanted"] == 4_000_000_000
    assert refusal.detail["bytes_free"] > 0
    assert "4000000000 bytes" in refusal.message
    assert "a batch of 3 and again with 2" in refusal.message


def test_one_item_is_tried_again_too_after_what_is_cached_was_given_back():
    model = Model(0, MemoryError())
    (result,) = attempt(model, ["a"])
    assert isinstance(result, InsufficientStorage)
    assert "an allocation failed" in result.message
    assert model.batches == [["a"], ["a"]]


def test_any_other_failure_is_each_item_s_own():
    def forward(items):
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    first, second, third = attempt(forward, ["a", "bad", "c"])
    assert (first, third) == ("A", "C")
    assert isinstance(second, ValueError)


def test_the_errors_of_every_device_are_known():
    torch = pytest.importorskip("torch")
    assert is_out_of_memory(torch.OutOfMemoryError(CARD))
    assert is_out_of_memory(RuntimeError(HOST))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(ValueError("CUDA out of memory"))
    assert bytes_wanted(torch.OutOfMemoryError(CARD)) == int(2.5 * 1024**3)
    assert bytes_wanted(MemoryError()) is None


def test_torch_s_own_error_of_this_host_is_understood():
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert bytes_wanted(caught.value) == 2**56


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_library_that_finds_no_memory_on_the_card_has_run_out_of_it(text):
    """torch's allocator holds nearly all of the card, and others allocate beside it."""
    assert is_out_of_memory(RuntimeError(text))


def broken_card(monkeypatch, error):
    torch = pytest.importorskip("torch")

    def synchronize(_index):
        if error:
            raise error

    for name, found in {
        "is_initialized": lambda: True,
        "device_count": lambda: 2,
        "memory_reserved": lambda index: 1 - index,
        "synchronize": synchronize,
        "empty_cache": lambda: None,
        "mem_get_info": lambda: (0, 0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, found)


def test_a_card_that_answers_no_more_ends_the_process_rather_than_every_request(monkeypatch):
    """An assertion in a kernel: all that follows fails, at once, and draws the traffic."""
    asserted = RuntimeError("CUDA error: device-side assert triggered\nCompile with …")
    broken_card(monkeypatch, asserted)
    model = Model(0, asserted)
    with pytest.raises(SystemExit) as ended:
        attempt(model, ["a", "b"])
    assert ended.value.code == EXIT_LOST_CARD
    assert "answers this process no more: CUDA error: device-side assert triggered" in str(
        ended.value
    )
    assert model.batches == [["a", "b"]]


@pytest.mark.parametrize("error", [None, RuntimeError("CUDA error: out of memory")])
def test_a_card_that_still_answers_costs_a_failed_request_only_itself(monkeypatch, error):
    broken_card(monkeypatch, error)
    results = attempt(Model(0, ValueError("shapes do not fit")), ["a", "b"])
    assert [type(one) for one in results] == [ValueError, ValueError]
