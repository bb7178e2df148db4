"""Projects, secrets, profiles, tasks in the catalog, and the file they share."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stoker.nouns.errors import Conflict, NotFound, StoreUnavailable
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifact_search import ArtifactSearch
from stoker.store.catalog.artifacts import Version
from stoker.store.catalog.run_search import RunSearch
from stoker.store.catalog.tasks import TaskSearch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


@pytest.fixture
async def catalog(path: Path) -> AsyncIterator[Catalog]:
    opened = await Catalog.open(path)
    yield opened
    await opened.close()


def project(name: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"owner": "me"},
        "status": {"state": "online"},
    }


async def test_projects_are_created_once_changed_as_a_whole_and_searched(catalog: Catalog) -> None:
    await catalog.projects.create("shop", project("shop", team="blue"))
    with pytest.raises(Conflict, match="shop"):
        await catalog.projects.create("shop", project("shop"))
    await catalog.projects.create("bank", project("bank"))

    def refuse(_earlier: dict[str, Any] | None) -> dict[str, Any]:
        raise ValueError("not like this")

    with pytest.raises(ValueError, match="not like this"):
        await catalog.projects.change("shop", refuse)
    await catalog.projects.change("shop", lambda earlier: (earlier or {}) | {"extra": 1})
    assert (await catalog.projects.find("shop") or {})["extra"] == 1
    assert await catalog.projects.names() == ["bank", "shop"]
    for asked, expected in (
        (("me", None, ()), ["bank", "shop"]),
        (("you", None, ()), []),
        ((None, "archived", ()), []),
        ((None, None, ("team=blue",)), ["shop"]),
    ):
        assert [*await catalog.projects.list_all(*asked)] == expected


async def test_a_secret_is_found_by_functions_under_both_names_and_by_clients_by_name_only(
    catalog: Catalog,
) -> None:
    await catalog.secrets.write("shop", {"API_TOKEN": "first", "OTHER": "x"})
    await catalog.secrets.write("shop", {"API_TOKEN": "second"})
    await catalog.profiles.store("shop", "bucket", "s3", "public", "private")
    assert await catalog.secrets.keys("shop") == ["API_TOKEN", "OTHER"]
    environment = await catalog.secrets.environment("shop")
    assert (
        environment.items()
        >= {
            "API_TOKEN": "second",
            "MLRUN_K8S_SECRET__API_TOKEN": "second",
            "datastore-profiles.shop.bucket": "private",
        }.items()
    )
    assert await catalog.secrets.environment("bank") == {}
    await catalog.secrets.delete("shop", ["OTHER"])
    assert await catalog.secrets.keys("shop") == ["API_TOKEN"]
    await catalog.secrets.delete("shop", [])
    assert await catalog.secrets.keys("shop") == []
    assert "datastore-profiles.shop.bucket" in await catalog.secrets.environment("shop")


async def test_the_private_part_of_a_profile_goes_with_it_and_is_never_listed(
    catalog: Catalog,
) -> None:
    await catalog.profiles.store("shop", "bucket", "s3", "old", "private")
    await catalog.profiles.store("shop", "bucket", "s3", "new", None)
    (listed,) = await catalog.profiles.list_all("shop")
    expected = {"project": "shop", "name": "bucket", "type": "s3", "object": "new"}
    assert listed == expected | {"private": None}
    assert await catalog.profiles.find("shop", "bucket") == listed
    with pytest.raises(NotFound, match="there is bucket"):
        await catalog.profiles.find("shop", "buckets")
    await catalog.profiles.delete("shop", "bucket")
    assert await catalog.secrets.environment("shop") == {}


async def test_a_task_that_runs_when_the_platform_dies_has_failed_afterwards(path: Path) -> None:
    before = await Catalog.open(path)
    running = await before.tasks.begin("shop", "deletion")
    ended = await before.tasks.begin("shop", "deletion")
    await before.tasks.end(ended["metadata"]["name"])
    await before.close()
    after = await Catalog.open(path)
    found = [
        (await after.tasks.find("shop", task["metadata"]["name"]))["status"]
        for task in (running, ended)
    ]
    assert found == [
        {"state": "failed", "error": "the platform was restarted meanwhile"},
        {"state": "succeeded", "error": None},
    ]
    await after.close()


async def test_tasks_are_found_by_project_state_and_time(catalog: Catalog) -> None:
    failed = await catalog.tasks.done("shop", "push", "no such receiver")
    await catalog.tasks.begin("shop", "push")
    await catalog.tasks.begin("bank", "push")
    found = await catalog.tasks.list_all(TaskSearch("shop", state="failed"))
    assert found == [failed]
    assert failed["status"] == {"state": "failed", "error": "no such receiver"}
    assert len(await catalog.tasks.list_all(TaskSearch("shop"))) == 2
    assert await catalog.tasks.list_all(TaskSearch("shop", created=(4e9, None))) == []
    name = failed["metadata"]["name"]
    assert await catalog.tasks.find("", name) == failed
    with pytest.raises(NotFound):
        await catalog.tasks.find("bank", name)


async def fill(catalog: Catalog, name: str) -> None:
    await catalog.projects.create(name, project(name, team="blue"))
    labelled = {"metadata": {"labels": {"a": "b"}}, "kind": "model"}
    await catalog.artifacts.store(name, Version("model", "v1", "t"), labelled)
    run = {"metadata": {"name": "train", "labels": {"a": "b"}}, "status": {"state": "running"}}
    await catalog.runs.store(name, "u1", 0, run)
    await catalog.run_logs.write(name, "u1", b"log", append=True)
    await catalog.functions.store(name, "fn", {"kind": "remote", "metadata": {}})
    await catalog.secrets.write(name, {"K": "v"})
    await catalog.profiles.store(name, "bucket", "s3", "public", "private")
    await catalog.tasks.begin(name, "push")


async def test_forgetting_a_project_leaves_nothing_of_it_and_all_of_the_others(
    catalog: Catalog,
) -> None:
    await fill(catalog, "shop")
    await fill(catalog, "bank")
    held = {"artifacts": 1, "runs": 1, "functions": 1, "secrets": 1}
    assert await catalog.holdings("shop") == held
    await catalog.forget("shop")
    assert await catalog.holdings("shop") == dict.fromkeys(held, 0)
    assert await catalog.holdings("bank") == held

    def mentions(connection: sqlite3.Connection) -> dict[str, int]:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name: sum(
                "shop" in map(str, row) for row in connection.execute(f"SELECT * FROM {name}")
            )
            for (name,) in tables.fetchall()
        }

    assert set((await catalog._database.run(mentions)).values()) == {0}
    labels = await catalog._database.run(
        lambda connection: connection.execute("SELECT COUNT(*) FROM labels").fetchone()[0]
    )
    assert labels == 3


async def test_a_summary_counts_keys_and_recent_runs(catalog: Catalog) -> None:
    await fill(catalog, "shop")
    await catalog.artifacts.store("shop", Version("model", tree="t2"), {"kind": "model"})
    await catalog.artifacts.store("shop", Version("plot", tree="t2"), {"kind": "plot"})
    for uid, state, start in (("u2", "error", "2999-01-01"), ("u3", "completed", "2001-01-01")):
        run = {"metadata": {"name": "train"}, "status": {"state": state, "start_time": start}}
        await catalog.runs.store("shop", uid, 0, run)
    counts = await catalog.summary("shop", 4e9)
    assert {name: number for name, number in counts.items() if number} == {
        "models_count": 1,
        "files_count": 1,
        "runs_failed_recent_count": 1,
        "runs_running_count": 1,
    }


async def test_the_file_is_for_its_owner_only(catalog: Catalog, path: Path) -> None:
    await catalog.secrets.write("shop", {"K": "v"})
    kept = [path, *path.parent.glob("catalog.sqlite-*")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}


async def test_a_file_that_is_no_database_is_said_to_be_none(path: Path) -> None:
    path.write_text("notes")
    with pytest.raises(StoreUnavailable, match=r"catalog\.sqlite"):
        await Catalog.open(path)


async def test_tables_of_another_version_are_left_alone(path: Path) -> None:
    await (await Catalog.open(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreUnavailable, match="another Stoker"):
        await Catalog.open(path)


WRITER = """
import asyncio, sys
from pathlib import Path
from stoker.store.catalog import Catalog
from stoker.store.catalog.artifacts import Version

async def main():
    catalog = await Catalog.open(Path(sys.argv[1]))
    for number in range(10**6):
        await catalog.artifacts.store("shop", Version(f"key{number}", tree="t"), {"spec": {}})
        print(number, flush=True)

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill_and_nothing_is_half_there(path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(20)]
    writer.kill()
    acknowledged += writer.stdout.readlines()
    writer.wait()
    writer.stdout.close()
    last = max(int(line) for line in acknowledged if line.endswith("\n"))
    catalog = await Catalog.open(path)
    found = await catalog.artifacts.list_all(ArtifactSearch("shop"))
    keys = {one["metadata"]["key"] for one in found}
    assert keys >= {f"key{number}" for number in range(last + 1)}
    # At most the one that was being written is there without having been acknowledged.
    assert len(keys) <= last + 2
    assert all(one["metadata"]["tag"] == "latest" for one in found)
    await catalog.close()


async def test_writers_that_come_at_once_do_not_lose_each_others_changes(catalog: Catalog) -> None:
    await catalog.runs.store("shop", "u1", 0, {"metadata": {"name": "n"}, "status": {}})
    updates = ({f"status.results.r{number}": number} for number in range(30))
    await asyncio.gather(*(catalog.runs.update("shop", "u1", 0, update) for update in updates))
    run = await catalog.runs.find("shop", "u1", 0)
    assert len(run["status"]["results"]) == 30
    stores = (
        catalog.artifacts.store("shop", Version("model", "v1", f"t{n}"), {"spec": {}})
        for n in range(20)
    )
    await asyncio.gather(*stores)
    assert len(await catalog.artifacts.list_all(ArtifactSearch("shop", tag="v1"))) == 1
    assert len(await catalog.runs.list_all(RunSearch("shop"))) == 1
