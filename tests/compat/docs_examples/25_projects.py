"""Projects: create, describe, save, load from a folder and from the database, list, parameters, delete.

Pages: docs/projects/create-project, docs/projects/load-project, docs/projects/project-setup
"""

from pathlib import Path

import mlrun

Path("prep.py").write_text(
    "def handler(context, p1=1):\n    context.log_result('accuracy', p1 * 2)\n"
)

project = mlrun.new_project("doc-project", "./proj", description="a project", overwrite=True)
project.set_function("../prep.py", name="prep", kind="job", image="mlrun/mlrun", handler="handler")
project.spec.params = {"p": 7}
project.spec.conda = ""
project.metadata.labels = {"team": "a"}
project.save()
assert Path("proj/project.yaml").exists()

db = mlrun.get_run_db()
stored = db.get_project("doc-project")
assert stored.spec.description == "a project", stored.to_dict()
assert stored.metadata.labels == {"team": "a"}, stored.to_dict()
assert stored.spec.params == {"p": 7}, stored.to_dict()
assert "doc-project" in [one.metadata.name for one in db.list_projects(format_="full")]
assert "doc-project" in db.list_projects(format_="name_only")
assert "doc-project" in [
    one.metadata.name for one in db.list_projects(format_="full", labels=["team=a"])
]
assert "doc-project" not in [
    one.metadata.name for one in db.list_projects(format_="full", labels=["team=b"])
]

loaded = mlrun.load_project("./proj")
assert loaded.name == "doc-project", loaded.name
assert loaded.get_param("p") == 7
assert loaded.run_function("prep", params={"p1": 4}, local=True).outputs["accuracy"] == 8

found = mlrun.get_or_create_project("doc-project", "./elsewhere")
assert found.spec.description == "a project", found.to_dict()

# A project_setup.py runs when the project is loaded.
Path("with_setup").mkdir()
Path("with_setup/prep.py").write_text(Path("prep.py").read_text())
Path("with_setup/project_setup.py").write_text("""
def setup(project):
    project.set_function("prep.py", name="from-setup", kind="job", image="mlrun/mlrun", handler="handler")
    project.spec.params["setup"] = True
    project.save()
    return project
""")
Path("with_setup/project.yaml").write_text(
    "kind: project\nmetadata:\n  name: doc-with-setup\nspec: {}\n"
)
setup = mlrun.load_project("./with_setup")
assert setup.get_param("setup") is True
assert setup.run_function("from-setup", params={"p1": 1}, local=True).outputs["accuracy"] == 2

db.delete_project("doc-with-setup", deletion_strategy="cascading")
assert "doc-with-setup" not in db.list_projects(format_="name_only")
try:
    db.get_project("doc-with-setup")
except mlrun.errors.MLRunNotFoundError:
    pass
else:
    raise AssertionError("a deleted project was found")
