"""Listings by filter, time and page; the SDK's own iteration over pages ends."""

import datetime
from pathlib import Path

import mlrun

project = mlrun.get_or_create_project("judge-pages", "./")
db = mlrun.get_run_db()
db.del_runs(project="judge-pages")
for number in range(7):
    run = {
        "metadata": {"name": f"r{number % 2}", "uid": f"{number:032x}", "project": "judge-pages",
                     "labels": {"odd": str(number % 2), "n": str(number)}},
        "spec": {},
        "status": {"state": "completed" if number else "error",
                   "start_time": f"2026-01-0{number + 1}T00:00:00+00:00",
                   "last_update": f"2026-01-0{number + 1}T01:00:00+00:00"},
    }  # fmt: skip
    db.store_run(run, run["metadata"]["uid"], "judge-pages")


def names(runs):
    return sorted(int(run["metadata"]["uid"], 16) for run in runs)


assert names(db.list_runs(project="judge-pages", labels=["odd=1"])) == [1, 3, 5]
assert names(db.list_runs(project="judge-pages", labels=["odd=1", "n=3"])) == [3]
assert names(db.list_runs(project="judge-pages", labels=["n"])) == list(range(7))
assert names(db.list_runs(project="judge-pages", states=["error"])) == [0]
assert names(db.list_runs(project="judge-pages", name="r1")) == [1, 3, 5]
since = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
assert names(db.list_runs(project="judge-pages", start_time_from=since)) == [4, 5, 6]

pages, token, got = 0, None, []
while True:
    if token:
        runs, token = db.paginated_list_runs(page_token=token)
    else:
        runs, token = db.paginated_list_runs(
            project="judge-pages", labels=["n"], page=1, page_size=3
        )
    got += runs
    pages += 1
    if not token or pages > 10:
        break
assert names(got) == list(range(7)), names(got)

for number in range(5):
    project.log_artifact(f"a{number}", body=b"x", labels={"n": str(number)})
artifacts, token = db.paginated_list_artifacts(project="judge-pages", page=1, page_size=2)
assert len(artifacts) == 2, artifacts
assert token, token
assert {a["metadata"]["key"] for a in project.list_artifacts(name="a1")} == {"a1"}
Path("f.py").write_text("def handler(context, event):\n    return 1\n")
for number in range(3):
    project.set_function("f.py", name=f"f{number}", kind="nuclio", image="x").save()
functions, token = db.paginated_list_functions(project="judge-pages", page=1, page_size=2)
assert len(functions) == 2, functions
rest, _ = db.paginated_list_functions(page_token=token)
assert len(rest) == 1, rest
