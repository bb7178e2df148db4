"""Code from an archive and from a git repository, with a handler in a sub-folder.

Pages: docs/projects/git-best-practices, docs/runtimes/functions (with_source_archive)
"""

import subprocess
import tarfile
import zipfile
from pathlib import Path

import mlrun

source = Path("source/pkg")
source.mkdir(parents=True)
(source / "__init__.py").write_text("")
(source / "words.py").write_text("WORD = 'archived'\n")
(source / "main.py").write_text(
    "from pkg.words import WORD\n\ndef handler(context, event):\n    return WORD\n"
)
with tarfile.open("source.tar.gz", "w:gz") as tar:
    tar.add("source/pkg", arcname="pkg")
with zipfile.ZipFile("source.zip", "w") as archive:
    for path in source.iterdir():
        archive.write(path, f"pkg/{path.name}")
git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", "source"]
for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "one"]):
    subprocess.run([*git, *command], check=True)

project = mlrun.get_or_create_project("doc-archive", "./")
for name, url in (
    ("tar", Path("source.tar.gz").resolve()),
    ("zip", Path("source.zip").resolve()),
    ("git", f"git://{Path('source').resolve()}#refs/heads/main"),
):
    fn = project.set_function(
        name=f"from-{name}", kind="nuclio", image="mlrun/mlrun", handler="pkg.main:handler"
    )
    fn.with_source_archive(str(url), handler="pkg.main:handler")
    fn.deploy()
    assert fn.invoke("/") in ("archived", b"archived"), name
