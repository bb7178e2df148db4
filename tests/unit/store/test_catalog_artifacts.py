"""Artifacts in the catalog: versions, tags, iterations, searches."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stoker.nouns.errors import BadRequest, Conflict, NotFound
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifact_search import ArtifactSearch, Partition
from stoker.store.catalog.artifact_tags import Identifier
from stoker.store.catalog.artifact_uid import artifact_uid
from stoker.store.catalog.artifacts import StoredArtifacts, Version
from stoker.store.catalog.conditions import Page


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[Catalog]:
    opened = await Catalog.open(tmp_path / "catalog.sqlite")
    yield opened
    await opened.close()


@pytest.fixture
def artifacts(catalog: Catalog) -> StoredArtifacts:
    return catalog.artifacts


def document(kind: str = "artifact", **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"labels": {"team": "blue"}}, "spec": spec, "status": {}}


async def put(
    artifacts: StoredArtifacts,
    key: str,
    tree: str,
    tag: str | None = None,
    iteration: int = 0,
    sent: dict[str, Any] | None = None,
) -> str:
    version = Version(key, tag=tag, tree=tree, iteration=iteration)
    stored = await artifacts.store("shop", version, sent or document(text=tree))
    return str(stored["metadata"]["uid"])


async def keys_and_tags(artifacts: StoredArtifacts, **search: Any) -> list[tuple[str, str | None]]:
    found = await artifacts.list_all(ArtifactSearch("shop", **search))
    return [(one["metadata"]["key"], one["metadata"].get("tag")) for one in found]


async def test_what_was_stored_comes_back_whole_with_what_the_server_says_of_it(
    artifacts: StoredArtifacts,
) -> None:
    sent = document(inline="é" * 10, nested={"a": [1, None, {"b": 2.5}]}, size=3)
    sent["metadata"] |= {"description": "d", "hash": "h"}
    stored = await artifacts.store("shop", Version("key", tree="run-1"), copy.deepcopy(sent))
    found = await artifacts.find("shop", Version("key", tag="latest"))
    assert found == stored
    assert found["spec"] == sent["spec"] | {"db_key": "key"}
    assert (
        found["metadata"].items()
        >= {
            **sent["metadata"],
            "key": "key",
            "project": "shop",
            "tree": "run-1",
            "iter": 0,
            "tag": "latest",
        }.items()
    )
    assert len(found["metadata"]["uid"]) == 40


async def test_the_same_content_from_the_same_run_is_the_same_version(
    artifacts: StoredArtifacts,
) -> None:
    first = await put(artifacts, "model", "run-1")
    changed = document(text="run-1")
    changed["metadata"]["labels"] = {"team": "red"}
    changed["status"] = {"state": "ready"}
    assert await put(artifacts, "model", "run-1", sent=changed) == first
    assert await put(artifacts, "model", "run-1", sent=document(text="other")) != first
    assert await put(artifacts, "model", "run-2") != first
    assert await put(artifacts, "model", "run-1", iteration=1) != first
    found = await artifacts.find("shop", Version("model", uid=first))
    assert found["metadata"]["labels"] == {"team": "red"}
    assert found["status"] == {"state": "ready"}


@pytest.mark.parametrize(
    ("kind", "field", "same"),
    [
        ("model", "metrics", True),
        ("model", "header", False),
        ("dataset", "header", True),
        ("dataset", "metrics", False),
        ("artifact", "extra_data", True),
        ("artifact", "metrics", False),
    ],
)
def test_what_mlrun_fills_in_later_does_not_make_another_version(
    kind: str, field: str, same: bool
) -> None:
    before = artifact_uid(document(kind), 0, "run-1")
    after = artifact_uid(document(kind, **{field: {"a": 1}}), 0, "run-1")
    assert (before == after) is same


async def test_a_new_version_is_the_latest_and_takes_its_tag_from_the_one_before(
    artifacts: StoredArtifacts,
) -> None:
    first = await put(artifacts, "model", "run-1", "v1")
    second = await put(artifacts, "model", "run-2", "v2")
    third = await put(artifacts, "model", "run-3", "v1")
    assert first not in (second, third)
    for tag, uid in (("v1", third), ("v2", second), ("latest", third)):
        found = await artifacts.find("shop", Version("model", tag=tag))
        assert (found["metadata"]["uid"], found["metadata"]["tag"]) == (uid, tag)
    untagged = await artifacts.find("shop", Version("model", uid=first, tag="latest"))
    assert "tag" not in untagged["metadata"]
    assert await artifacts.tags("shop", None) == ["latest", "v1", "v2"]
    assert await artifacts.tags("shop", "model") == []


async def test_storing_an_old_version_again_moves_only_the_tag_that_was_asked_for(
    artifacts: StoredArtifacts,
) -> None:
    first = await put(artifacts, "model", "run-1")
    second = await put(artifacts, "model", "run-2")
    assert await put(artifacts, "model", "run-1", "old") == first
    for tag, uid in (("old", first), ("latest", second)):
        assert (await artifacts.find("shop", Version("model", tag=tag)))["metadata"]["uid"] == uid


async def test_a_tag_of_one_key_says_nothing_of_another(artifacts: StoredArtifacts) -> None:
    await put(artifacts, "model", "run-1", "v1")
    await put(artifacts, "data", "run-2", "v1")
    assert sorted(await keys_and_tags(artifacts, tag="v1")) == [("data", "v1"), ("model", "v1")]


async def test_what_a_run_made_is_found_by_its_tree_after_the_tag_has_moved_on(
    artifacts: StoredArtifacts,
) -> None:
    first = await put(artifacts, "model", "run-1")
    await put(artifacts, "model", "run-2")
    found = await artifacts.find("shop", Version("model", tag="latest", tree="run-1"))
    assert found["metadata"]["uid"] == first


async def test_a_version_that_is_meant_by_uid_cannot_become_another(
    artifacts: StoredArtifacts,
) -> None:
    uid = await put(artifacts, "model", "run-1")
    version = Version("model", tree="run-1", uid=uid)
    await artifacts.store("shop", version, document(text="run-1"))
    with pytest.raises(BadRequest, match="Changing uid"):
        await artifacts.store("shop", version, document(text="changed"))


async def test_creating_what_is_there_is_a_conflict(artifacts: StoredArtifacts) -> None:
    version = Version("model", tree="run-1")
    await artifacts.store("shop", version, document(), new=True)
    with pytest.raises(Conflict):
        await artifacts.store("shop", version, document(), new=True)


async def test_the_parent_of_a_parameter_search_has_the_artifact_of_its_best_child(
    artifacts: StoredArtifacts,
) -> None:
    uids = [await put(artifacts, "out", "run-1", iteration=child) for child in (1, 2, 3)]
    parent = Version("out", tag="latest", tree="run-1", iteration=0)
    with pytest.raises(NotFound):
        await artifacts.find("shop", parent)
    for best in (2, 3):
        link = {"kind": "link", "spec": {"link_iteration": best}, "metadata": {"tree": "run-1"}}
        await artifacts.store("shop", Version("out", tree="run-1", iteration=0), link)
        assert (await artifacts.find("shop", parent))["metadata"]["uid"] == uids[best - 1]
    assert len(await keys_and_tags(artifacts)) == 3
    assert await keys_and_tags(artifacts, best_iteration=True) == [("out", "latest")]
    assert len(await keys_and_tags(artifacts, tag="latest")) == 3
    missing = {"kind": "link", "spec": {"link_iteration": 9}, "metadata": {"tree": "run-1"}}
    with pytest.raises(NotFound, match="Best iteration"):
        await artifacts.store("shop", Version("out", tree="run-1"), missing)


async def test_a_version_with_two_tags_is_listed_with_each(artifacts: StoredArtifacts) -> None:
    await put(artifacts, "model", "run-1", "v1")
    assert await keys_and_tags(artifacts) == [("model", "latest"), ("model", "v1")]
    assert await keys_and_tags(artifacts, tag="*") == [("model", "latest"), ("model", "v1")]
    ranked = await keys_and_tags(artifacts, partition=Partition())
    assert ranked == [("model", "latest"), ("model", "v1")]


async def test_searches(artifacts: StoredArtifacts) -> None:
    made = document("model", producer={"uri": "shop/run-a"})
    made["metadata"]["labels"] = {"team": "red", "stage": "prod"}
    await put(artifacts, "My_Model", "run-a", sent=made)
    await put(artifacts, "data", "run-b", sent=document("dataset", producer={"uri": "shop/run-b"}))
    await put(artifacts, "plot", "run-b", sent=document("plot", producer={"uri": "shop/run-b"}))
    for search, expected in (
        ({"name": "data"}, ["data"]),
        ({"name": "~my_m"}, ["My_Model"]),
        ({"name": "~%"}, []),
        ({"kind": "model"}, ["My_Model"]),
        ({"category": "other"}, ["plot"]),
        ({"labels": ("team=red",)}, ["My_Model"]),
        ({"labels": ("team", "stage=prod")}, ["My_Model"]),
        ({"labels": ("team=~LU",)}, ["data", "plot"]),
        ({"labels": ("team=green",)}, []),
        ({"tree": "run-b"}, ["data", "plot"]),
        ({"producer_uri": "run-a"}, ["My_Model"]),
        ({"iteration": 1}, []),
        ({"since": 4e9}, []),
        ({"until": 4e9}, ["My_Model", "data", "plot"]),
    ):
        found = [key for key, _ in await keys_and_tags(artifacts, **search)]
        assert sorted(found) == expected, search


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"kind": "model", "category": "model"}, "can't be given together"),
        ({"iteration": 1, "best_iteration": True}, "cannot be used when iter"),
        ({"category": "fruit"}, "category must be one of"),
    ],
)
async def test_searches_that_contradict_themselves(
    artifacts: StoredArtifacts, search: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequest, match=message):
        await artifacts.list_all(ArtifactSearch("shop", **search))


async def test_pages_follow_each_other_and_partitions_keep_the_newest(
    artifacts: StoredArtifacts,
) -> None:
    for run in range(3):
        for key in ("a", "b"):
            await put(artifacts, key, f"run-{run}")
    search = ArtifactSearch("shop")
    pages = [await artifacts.list_all(search, Page(4, start)) for start in (0, 4)]
    assert [len(page) for page in pages] == [4, 2]
    uids = [one["metadata"]["uid"] for page in pages for one in page]
    assert uids == [one["metadata"]["uid"] for one in await artifacts.list_all(search)]
    newest = await artifacts.list_all(ArtifactSearch("shop", partition=Partition()))
    assert [(one["metadata"]["key"], one["metadata"]["tree"]) for one in newest] == [
        ("b", "run-2"),
        ("a", "run-2"),
    ]
    oldest = Partition(rows=2, sort="created", descending=False)
    found = await artifacts.list_all(ArtifactSearch("shop", name="a", partition=oldest))
    assert [one["metadata"]["tree"] for one in found] == ["run-1", "run-0"]


async def test_children_are_found_by_their_parent(artifacts: StoredArtifacts) -> None:
    uid = await put(artifacts, "model", "run-1", "v1")
    other = await put(artifacts, "model", "run-2")
    for key, parent in (("mine", uid), ("theirs", other)):
        uri = f"store://models/shop/model#0@x^{parent}"
        await put(artifacts, key, "run-3", sent=document("llm-prompt", parent_uri=uri))
    for parent, expected in (
        ("model:v1", ["mine"]),
        ("model", ["theirs"]),
        ("model:v9", []),
        (f"store://models/shop/model#0@x^{uid}", ["mine"]),
    ):
        found = await keys_and_tags(artifacts, parent=parent)
        assert [key for key, _ in found] == expected, parent


async def test_tags_are_put_on_moved_replaced_and_taken_off(artifacts: StoredArtifacts) -> None:
    uids = [await put(artifacts, "model", f"run-{n}") for n in (1, 2)]
    meant = [Identifier("model", "artifact", 0, uid) for uid in uids]
    await artifacts.tag("shop", "prod", meant[:1], replace=False)
    assert (await artifacts.find("shop", Version("model", "prod")))["metadata"]["uid"] == uids[0]
    await artifacts.tag("shop", "prod", meant[1:], replace=False)
    assert (await artifacts.find("shop", Version("model", "prod")))["metadata"]["uid"] == uids[1]
    await artifacts.tag("shop", "only", meant[1:], replace=True)
    assert await artifacts.tags("shop", None) == ["only"]
    by_tree = [Identifier("model", uid="run-1")]
    await artifacts.tag("shop", "first", by_tree, replace=False)
    assert (await artifacts.find("shop", Version("model", "first")))["metadata"]["uid"] == uids[0]
    await artifacts.untag("shop", "only", meant)
    assert await artifacts.tags("shop", None) == ["first"]


async def test_deleting_takes_the_versions_meant_with_their_tags_and_labels(
    artifacts: StoredArtifacts, catalog: Catalog
) -> None:
    uids = [await put(artifacts, "model", f"run-{n}", f"v{n}") for n in (1, 2, 3)]
    await artifacts.delete("shop", Version("model", uid=uids[0]))
    await artifacts.delete("shop", Version("model", tag="v2"))
    await artifacts.delete("shop", Version("model", tag="v9"))
    assert await keys_and_tags(artifacts) == [("model", "latest"), ("model", "v3")]
    await artifacts.delete_all(ArtifactSearch("shop", labels=("team=blue",)))
    assert await keys_and_tags(artifacts) == []
    for table in ("labels", "artifact_tags"):
        left = await catalog._database.run(
            lambda connection, table=table: connection.execute(
                f"SELECT COUNT(*) FROM {table}"
            ).fetchone()[0]
        )
        assert left == 0, table


@pytest.mark.parametrize(
    ("asked", "message", "near"),
    [
        (Version("modle", "latest"), "there is model", ["model"]),
        (Version("model", "v9"), "model has the tags latest, v1", ["model"]),
        (Version("model", "latest", iteration=4), "shop/model#4:latest", ["model"]),
        (Version("zebra"), r"shop/zebra not found$", []),
    ],
)
async def test_a_missing_version_is_named_with_what_is_there(
    artifacts: StoredArtifacts, asked: Version, message: str, near: list[str]
) -> None:
    await put(artifacts, "model", "run-1", "v1")
    with pytest.raises(NotFound, match=message) as caught:
        await artifacts.find("shop", asked)
    assert caught.value.detail["near"] == near
