"""Runs and their logs in the catalog."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stoker.nouns.errors import BadRequest, NotFound
from stoker.store.catalog import Catalog, run_logs
from stoker.store.catalog.artifacts import Version
from stoker.store.catalog.document import set_at
from stoker.store.catalog.run_search import RunPartition, RunSearch
from stoker.store.catalog.runs import StoredRuns


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    opened = await Catalog.open(tmp_path / "catalog.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
def runs(catalog: Catalog) -> StoredRuns:
    return catalog.runs


def document(name: str = "train", state: str = "running", **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"parameters": {"x": 1}},
        "status": {"state": state},
    }


async def names(runs: StoredRuns, **search: Any) -> list[str]:
    found = await runs.list_all(RunSearch(search.pop("project", "shop"), **search))
    return [one["metadata"]["name"] for one in found]


async def test_a_run_is_stored_updated_by_dotted_paths_and_read_back(runs: StoredRuns) -> None:
    await runs.store("shop", "u1", 0, document())
    updates = {
        "status.state": "completed",
        "status.results": {"y": 2.5},
        "metadata.labels.owner": "me",
        r"metadata.annotations.\example.com/a\.b": "c",
        "spec": {"replaced": True},
    }
    await runs.update("shop", "u1", 0, updates)
    found = await runs.find("shop", "u1", 0)
    assert found["metadata"] == {
        "name": "train",
        "labels": {"owner": "me"},
        "annotations": {"example.com/a": {"b": "c"}},
    }
    assert found["spec"] == {"replaced": True}
    status = found["status"]
    assert (status["state"], status["results"]) == ("completed", {"y": 2.5})
    assert status["start_time"] <= status["end_time"] <= status["last_update"]
    assert await names(runs, labels=("owner=me",)) == ["train"]


async def test_what_the_client_says_of_its_times_stands(runs: StoredRuns) -> None:
    sent = document(state="completed")
    sent["status"] |= {"start_time": "2020-01-01 10:00:00", "end_time": "2020-01-02T00:00:00Z"}
    await runs.store("shop", "u1", 0, sent)
    status = (await runs.find("shop", "u1", 0))["status"]
    assert status["start_time"] == "2020-01-01T10:00:00+00:00"
    assert status["end_time"] == "2020-01-02T00:00:00+00:00"
    assert await names(runs, started=(1577872800, 1577872800)) == ["train"]
    assert await names(runs, ended=(None, 1577836799)) == []
    assert await names(runs, updated=(1577836799, None)) == ["train"]


def test_a_path_may_be_made_of_what_was_no_object() -> None:
    run = {"status": "odd"}
    set_at(run, "status.results.x", 1)
    assert run == {"status": {"results": {"x": 1}}}


async def test_a_run_keeps_its_name(runs: StoredRuns) -> None:
    await runs.store("shop", "u1", 0, document("train"))
    with pytest.raises(BadRequest, match="Changing name"):
        await runs.store("shop", "u1", 0, document("other"))
    with pytest.raises(BadRequest, match="Changing name"):
        await runs.update("shop", "u1", 0, {"metadata.name": "other"})
    assert (await runs.find("shop", "u1", 0))["metadata"]["name"] == "train"


async def test_a_run_that_is_not_there_is_named_with_a_near_one(runs: StoredRuns) -> None:
    await runs.store("shop", "abcdef12", 0, document())
    with pytest.raises(NotFound, match="there is abcdef12"):
        await runs.update("shop", "abcdef13", 0, {})
    with pytest.raises(NotFound, match="abcdef12#3"):
        await runs.find("shop", "abcdef12", 3)


async def test_searches(runs: StoredRuns) -> None:
    await runs.store("shop", "u1", 0, document("train", "completed", workflow="w1"))
    await runs.store("shop", "u2", 0, document("train", "error", workflow="w2"))
    await runs.store("shop", "u3", 0, document("Evaluate", "completed", workflow="w1"))
    await runs.store("shop", "u3", 1, document("Evaluate", "completed"))
    await runs.store("bank", "u4", 0, document("train", "completed"))
    notified = document("told")
    notified["spec"]["notifications"] = [{"kind": "slack"}]
    await runs.store("bank", "u5", 0, notified)
    for search, expected in (
        ({}, ["Evaluate", "Evaluate", "train", "train"]),
        ({"iterations": False}, ["Evaluate", "train", "train"]),
        ({"name": "train"}, ["train", "train"]),
        ({"name": "~EVAL", "iterations": False}, ["Evaluate"]),
        ({"states": ("error", "running")}, ["train"]),
        ({"uids": ("u1", "u3"), "iterations": False}, ["Evaluate", "train"]),
        ({"labels": ("workflow=w1",)}, ["Evaluate", "train"]),
        ({"project": "*", "name": "train"}, ["train", "train", "train"]),
        ({"project": "*", "notified": True}, ["told"]),
    ):
        assert sorted(await names(runs, **search)) == expected, search


async def test_the_newest_of_each_name(runs: StoredRuns) -> None:
    for turn in range(3):
        for name in ("a", "b", "c"):
            sent = document(name, "completed")
            sent["status"]["start_time"] = f"2020-01-0{turn + 1} 00:00:00"
            await runs.store("shop", f"{name}{turn}", 0, sent)
    partition = RunPartition(by="name", rows=2, sort="created")
    assert await names(runs, partition=partition) == ["c", "b", "a", "c", "b", "a"]
    started = [
        one["status"]["start_time"][:10]
        for one in await runs.list_all(RunSearch("shop", partition=partition))
    ]
    assert started == ["2020-01-03"] * 3 + ["2020-01-02"] * 3
    newest = RunPartition(rows=1, sort="updated", partitions=2)
    assert sorted(await names(runs, partition=newest)) == ["b", "c"]
    with pytest.raises(BadRequest, match="partition-by must be"):
        await names(runs, partition=RunPartition(by="state"))


async def test_a_run_shows_the_artifacts_that_it_made(catalog: Catalog) -> None:
    for tree, producer in (("u1", "shop/u1"), ("w1", "shop/u2"), ("w1", "shop/u3")):
        artifact = {"spec": {"producer": {"uri": producer}}, "metadata": {}}
        await catalog.artifacts.store("shop", Version(producer[-2:], "v1", tree), artifact)
    await catalog.runs.store("shop", "u1", 0, document())
    await catalog.runs.store("shop", "u2", 0, document(workflow="w1"))
    for uid in ("u1", "u2"):
        run = await catalog.runs.find("shop", uid, 0, with_artifacts=True)
        assert [one["metadata"]["key"] for one in run["status"]["artifacts"]] == [uid]
    assert "artifacts" not in (await catalog.runs.find("shop", "u1", 0))["status"]


async def test_artifacts_that_an_older_client_put_into_its_run_become_links(
    runs: StoredRuns,
) -> None:
    sent = document()
    sent["status"]["artifacts"] = [
        {"metadata": {"key": "m", "project": "shop", "tree": "u1"}, "spec": {"db_key": "train_m"}}
    ]
    await runs.store("shop", "u1", 0, sent)
    status = (await runs.find("shop", "u1", 0))["status"]
    assert "artifacts" not in status
    assert status["artifact_uris"] == {"m": "store://artifacts/shop/train_m@u1"}


async def test_tokens_of_notifications_are_not_kept(runs: StoredRuns) -> None:
    sent = document()
    sent["spec"]["notifications"] = [
        {"name": "a", "secret_params": {"webhook": "https://hooks/token"}},
        {"name": "b", "secret_params": {"secret": "key-of-the-project"}},
    ]
    await runs.store("shop", "u1", 0, sent)
    first, second = (await runs.find("shop", "u1", 0))["spec"]["notifications"]
    assert first["secret_params"] == {"webhook": "REDACTED"}
    assert second["secret_params"] == {"secret": "key-of-the-project"}


async def test_what_is_running_is_not_deleted(catalog: Catalog) -> None:
    runs = catalog.runs
    await runs.store("shop", "u1", 0, document(state="completed"))
    await runs.store("shop", "u1", 2, document(state="running"))
    await catalog.run_logs.write("shop", "u1", b"log", append=True)
    with pytest.raises(BadRequest, match=r"u1 is still going on.*update_run"):
        await runs.delete("shop", "u1")
    with pytest.raises(BadRequest):
        await runs.delete_all(RunSearch("shop"))
    await runs.update("shop", "u1", 2, {"status.state": "aborted"})
    await runs.delete("shop", "u1")
    await runs.delete("shop", "u1")
    assert await names(runs) == []
    with pytest.raises(NotFound):
        await catalog.run_logs.size("shop", "u1")


async def test_deleting_many_deletes_all_or_none(runs: StoredRuns) -> None:
    for number in range(6):
        state = "running" if number == 3 else "completed"
        await runs.store("shop", f"u{number}", 0, document(state=state))
    with pytest.raises(BadRequest):
        await runs.delete_all(RunSearch("shop"))
    assert len(await names(runs)) == 6
    await runs.delete_all(RunSearch("shop", states=("completed",)))
    assert len(await names(runs)) == 1


async def read(catalog: Catalog, offset: int, size: int | None) -> bytes:
    return b"".join([piece async for piece in catalog.run_logs.read("shop", "u1", offset, size)])


async def test_a_log_is_appended_and_read_from_anywhere(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_logs, "PIECE_BYTES", 7)
    monkeypatch.setattr(run_logs, "READ_BYTES", 10)
    text = bytes(range(60))
    for start, end in ((0, 1), (1, 20), (20, 60)):
        await catalog.run_logs.write("shop", "u1", text[start:end], append=True)
    assert await catalog.run_logs.size("shop", "u1") == len(text)
    for offset in range(len(text) + 2):
        assert await read(catalog, offset, None) == text[offset:]
        for size in (0, 1, 9, 25):
            assert await read(catalog, offset, size) == text[offset : offset + size]
    await catalog.run_logs.write("shop", "u1", b"anew", append=False)
    assert await read(catalog, 0, None) == b"anew"
