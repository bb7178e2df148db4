"""What cannot be split over processes is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

import tiny_tasks
from stoker.models.load import load
from stoker.models.parallel.sharded import check_split
from stoker.models.parallel.split_load import devices_of_ranks
from stoker.models.prepare import prepare
from stoker.nouns.errors import UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.settings import ModelSettings

pytestmark = pytest.mark.models


def settings(folder: Path, ranks: int, task: str) -> ModelSettings:
    return ModelSettings.read(
        {
            "STOKER_MODEL": str(folder),
            "STOKER_TASK": task,
            "STOKER_TENSOR_PARALLEL": str(ranks),
        }
    )


def test_the_build_step_refuses_heads_that_do_not_come_out_even(tmp_path: Path) -> None:
    tiny_tasks.llama(tmp_path / "model")
    wanted = settings(tmp_path / "model", 4, "text-generation")
    home = Home.at(tmp_path / "h")
    with pytest.raises(UnusableModel, match=r"num_key_value_heads is 2; .* divide them: 2"):
        prepare(wanted, home, lambda _: None)
    assert not home.models.exists(), "it was refused before the work"


def test_the_build_step_refuses_a_model_without_a_plan(tmp_path: Path) -> None:
    tiny_tasks.bert(tmp_path / "model", "BertForMaskedLM")
    wanted = settings(tmp_path / "model", 2, "fill-mask")
    with pytest.raises(UnusableModel, match=r"no plan by which 'bert' is split; .*DEVICE_MAP"):
        prepare(wanted, Home.at(tmp_path / "h"), lambda _: None)


def test_one_that_was_prepared_for_one_process_is_looked_at_again(tmp_path: Path) -> None:
    tiny_tasks.llama(tmp_path / "model")
    home = Home.at(tmp_path / "h")
    prepare(settings(tmp_path / "model", 1, "text-generation"), home, lambda _: None)
    with pytest.raises(UnusableModel, match="does not divide the heads of 'llama'"):
        load(settings(tmp_path / "model", 3, "text-generation"), home)


def test_what_divides_the_heads_is_split() -> None:
    config = transformers.LlamaConfig(hidden_size=96, num_attention_heads=12, num_key_value_heads=6)
    check_split(config, 3)


@pytest.mark.parametrize(
    ("visible", "said"),
    [
        ("SIM-0", r"needs 2 devices a worker, one each; this one has 1: SIM-0"),
        ("GPU-a,GPU-b,GPU-c", r"this one has 3: GPU-a, GPU-b, GPU-c"),
        ("MIG-a,MIG-b", r"NCCL does not connect parts of a card"),
    ],
)
def test_a_worker_without_one_whole_device_for_each_is_refused(visible: str, said: str) -> None:
    with pytest.raises(UnusableModel, match=said):
        devices_of_ranks(visible, 2)


@pytest.mark.parametrize("visible", ["", "-1"])
def test_without_devices_all_ranks_compute_on_the_cpu(visible: str) -> None:
    assert devices_of_ranks(visible, 3) == ("", "", "")
