"""MLRun's function objects in the catalog: versions by hash, tags that point at them."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stoker.store.catalog import Catalog
from stoker.store.catalog.conditions import Page
from stoker.store.catalog.functions import EVERY_TAG, FunctionQuery, function_hash

MLRUN_HASH = "19cf9f919885a90505b660b60d07ed3ee81af851"
"""What ``mlrun.utils.fill_function_hash`` of mlrun 1.12.1 makes of `SAMPLE`."""
SAMPLE: dict[str, Any] = {
    "kind": "remote",
    "metadata": {
        "name": "echo",
        "project": "p1",
        "tag": "v1",
        "labels": {"ü": "x"},
        "created": "2026",
    },
    "spec": {"build": {"functionSourceCode": "aGk="}, "min_replicas": 0, "rate": 1.5},
    "status": {"state": "ready"},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


@pytest.fixture
async def catalog(path: Path) -> AsyncIterator[Catalog]:
    opened = await Catalog.open(path)
    yield opened
    await opened.close()


def function(name: str = "echo", kind: str = "remote", **metadata: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": name, "project": "shop", **metadata},
        "spec": {"command": "", "anything": {"a": [1, None, "ü"]}},
        "status": {"state": "ready"},
    }


async def names(catalog: Catalog, **asked: Any) -> list[str]:
    found = await catalog.functions.search(FunctionQuery("shop", **asked))
    return [f["metadata"]["name"] for f in found]


def test_the_hash_is_the_one_that_mlrun_computes() -> None:
    assert function_hash(SAMPLE) == MLRUN_HASH


def test_the_hash_does_not_depend_on_when_where_and_how_it_runs() -> None:
    other = copy.deepcopy(SAMPLE)
    other["metadata"] |= {"tag": "v2", "hash": "x", "updated": "2027", "created": "2020"}
    other["status"] = {"state": "error"}
    assert function_hash(other) == MLRUN_HASH
    other["spec"]["min_replicas"] = 1
    assert function_hash(other) != MLRUN_HASH


async def test_an_object_comes_back_whole_under_its_tag(catalog: Catalog) -> None:
    sent = function()
    key = await catalog.functions.store("shop", "echo", sent)
    found = await catalog.functions.get("shop", "echo")
    assert found is not None
    assert found["spec"] == sent["spec"]
    assert found["status"] == sent["status"]
    assert found["metadata"]["tag"] == "latest"
    assert found["metadata"]["hash"] == key
    assert sent == function()  # what was given is not changed
    assert await catalog.functions.get("shop", "echo", tag="v1") is None
    assert await catalog.functions.get("bank", "echo") is None


async def test_the_objects_own_tag_counts_when_none_is_asked_for(catalog: Catalog) -> None:
    await catalog.functions.store("shop", "echo", function(tag="v7"))
    assert await catalog.functions.tags("shop", "echo") == ["v7"]
    await catalog.functions.store("shop", "echo", function(tag="v7"), tag="v8")
    assert await catalog.functions.tags("shop", "echo") == ["v7", "v8"]


async def test_an_unversioned_store_replaces_and_a_versioned_one_keeps(catalog: Catalog) -> None:
    first = await catalog.functions.store("shop", "echo", function(rank=1), versioned=(True,))
    second = await catalog.functions.store("shop", "echo", function(rank=2), versioned=(True,))
    assert first != second
    for key, rank in ((first, 1), (second, 2)):
        kept = await catalog.functions.get("shop", "echo", hash_key=key)
        assert kept is not None
        assert kept["metadata"]["rank"] == rank
    await catalog.functions.store("shop", "echo", function(rank=3))
    await catalog.functions.store("shop", "echo", function(rank=4))
    latest = await catalog.functions.get("shop", "echo")
    assert latest is not None
    assert latest["metadata"]["rank"] == 4
    listed = await catalog.functions.search(FunctionQuery("shop"))
    assert [(f["metadata"]["tag"], f["metadata"]["rank"]) for f in listed] == [
        ("", 1),
        ("", 2),
        ("latest", 4),
    ]


async def test_a_version_without_a_tag_shows_no_status(catalog: Catalog) -> None:
    await catalog.functions.store("shop", "echo", function(rank=1), versioned=(True, False))
    versioned, latest = await catalog.functions.search(FunctionQuery("shop"))
    assert versioned["status"] is None
    assert latest["status"] == {"state": "ready"}


async def test_the_hash_of_what_is_not_versioned_finds_it_too(catalog: Catalog) -> None:
    key = await catalog.functions.store("shop", "echo", function())
    found = await catalog.functions.get("shop", "echo", hash_key=key)
    assert found is not None
    assert found["metadata"]["hash"] == key
    assert await catalog.functions.get("shop", "echo", hash_key="0" * 40) is None


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["echo", "model", "model"]),
        ({"name": "model"}, ["model", "model"]),
        ({"name": "~OD"}, ["model", "model"]),
        ({"name": "~%"}, []),
        ({"kind": "serving"}, ["model", "model"]),
        ({"tag": "v1"}, ["model"]),
        ({"tag": EVERY_TAG}, ["echo", "model"]),
        ({"labels": ["team=blue"]}, ["echo"]),
        ({"labels": ["team"]}, ["echo", "model", "model"]),
        ({"labels": ["team=blue", "other"]}, []),
        ({"since": 1.0}, ["echo", "model", "model"]),
        ({"until": 1.0}, []),
        ({"page": Page(1, 1)}, ["model"]),
    ],
)
async def test_listings_select(
    catalog: Catalog, asked: dict[str, Any], expected: list[str]
) -> None:
    await catalog.functions.store("shop", "echo", function(labels={"team": "blue"}))
    model = function("model", "serving", labels={"team": "red"}, tag="v1")
    await catalog.functions.store("shop", "model", model, versioned=(True, False))
    await catalog.functions.store("bank", "other", function("other"))
    assert await names(catalog, **asked) == expected


async def test_a_deleted_function_is_gone_with_its_versions_tags_and_labels(
    catalog: Catalog,
) -> None:
    labels = {"team": "blue"}
    key = await catalog.functions.store(
        "shop", "echo", function(labels=labels), tag="v1", versioned=(True, False)
    )
    assert await catalog.functions.delete("shop", "echo") is True
    assert await catalog.functions.delete("shop", "echo") is False
    assert await catalog.functions.get("shop", "echo", tag="v1") is None
    assert await catalog.functions.get("shop", "echo", hash_key=key) is None
    assert await catalog.functions.tags("shop", "echo") == []
    await catalog.functions.store("shop", "new", function("new"))
    assert await names(catalog, labels=["team=blue"]) == []


async def test_functions_survive_a_restart(path: Path) -> None:
    first = await Catalog.open(path)
    await first.functions.store("shop", "echo", function(), tag="v1")
    await first.close()
    second = await Catalog.open(path)
    assert await second.functions.get("shop", "echo", tag="v1") is not None
    assert await second.functions.names("shop") == ["echo"]
    await second.close()
