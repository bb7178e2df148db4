"""What ``stoker deploy`` reads: YAML with places, packing of code, projects."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from stoker.cli.failure import Failure
from stoker.cli.invoke import guess_type, read_data
from stoker.cli.keys import read_keys
from stoker.cli.pack import pack_function
from stoker.cli.project import find_packages
from stoker.cli.yaml_file import YamlFile

GOOD = """\
apiVersion: nuclio.io/v1
kind: Function
metadata:
  name: hello
spec:
  handler: main:handler
  runtime: python:3.11
"""


def written(folder: Path, text: str = GOOD, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "function.yaml"
    path.write_text(text)
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_py", ".py").replace("_txt", ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return path


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("metadata:\n  name: [a\n", ":3:1:", "expected ',' or ']'"),
        ("metadata:\n\tname: a\n", ":2:1:", "cannot start any token"),
        ("", ":1:1:", "empty"),
        ("- a\n", ":1:1:", "must be a mapping"),
        (GOOD + "---\n" + GOOD, ":9:1:", "second YAML document"),
        (GOOD + "kind: Other\n", ":8:1:", "'kind' is there twice"),
        (GOOD + "? [1]\n: 2\n", ":8:3:", "a key must be plain text"),
        ("a: &a [*a]\n" + GOOD, ":1:4:", "the value contains itself"),
        (GOOD + "a: !!set {b}\n", ":8:4:", "!!set has no place in JSON"),
        (GOOD + "a: !!int b\n", ":", "a value cannot be read"),
        (GOOD + "a: " + "[" * 3000 + "\n", ":", "nested too deeply"),
        ("a: !!python/object/apply:os.system [x]\n", ":1:4:", "could not determine a constructor"),
    ],
)
def test_a_yaml_error_names_file_line_and_column(
    tmp_path: Path, text: str, place: str, says: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Failure) as caught:
        YamlFile.read(path)
    assert f"{path}{place}" in caught.value.message
    assert says in caught.value.message


def test_a_wrong_field_is_shown_where_it_stands(tmp_path: Path) -> None:
    text = GOOD + "  eventTimeout: soon\n  triggers:\n    http: {kind: http, numWorkers: -1}\n"
    path = written(tmp_path, text, main_py="")
    with pytest.raises(Failure) as caught:
        pack_function(path)
    first, second = caught.value.message.splitlines()
    assert first.startswith(f"{path}:8:17: spec.eventTimeout: must be a duration")
    assert second.startswith(f"{path}:10:36: spec.triggers.http.numWorkers")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [("{name: hello}", "[1]", ":1:11: metadata"), ("}", ", labels: 5}", ":1:33: metadata.labels")],
)
def test_metadata_of_a_wrong_shape_is_shown_where_it_stands(
    tmp_path: Path, old: str, new: str, place: str
) -> None:
    text = "metadata: {name: hello}\n".replace(old, new) + "spec: {handler: main:handler}\n"
    path = written(tmp_path, text, main_py="")
    for project in ("", "shop"):
        with pytest.raises(Failure) as caught:
            pack_function(path, project=project)
        assert caught.value.message.startswith(f"{path}{place}: ")


@pytest.mark.parametrize("field", ["metadata", "spec"])
def test_a_project_of_a_wrong_shape_is_shown_where_it_stands(tmp_path: Path, field: str) -> None:
    fields = {"kind": "project", "metadata": "{name: shop}", field: "5"}
    path = tmp_path / "project.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    with pytest.raises(Failure, match=rf"project.yaml:\d:\d+: {field}: must be a mapping, was int"):
        find_packages(path)


def test_dates_without_quotes_and_values_named_twice_can_be_sent(tmp_path: Path) -> None:
    text = GOOD + "when: 2024-13-45\nbase: &b {x: 1}\nall: [*b, {<<: *b, y: 2}]\n"
    document = pack_function(written(tmp_path, text, main_py="")).document
    assert document["when"] == "2024-13-45"
    assert json.loads(json.dumps(document))["all"] == [{"x": 1}, {"x": 1, "y": 2}]


def test_a_single_file_travels_inside_the_config(tmp_path: Path) -> None:
    path = written(tmp_path, main_py="x = 1\n", README_txt="")
    (tmp_path / "README.txt").unlink()
    package = pack_function(path)
    source = package.document["spec"]["build"]["functionSourceCode"]
    assert base64.b64decode(source) == b"x = 1\n"
    assert (package.name, package.project) == ("hello", "default")


def test_several_files_travel_as_a_folder(tmp_path: Path) -> None:
    path = written(tmp_path, main_py="", lib__more_py="", data_txt="")
    build = pack_function(path).document["spec"]["build"]
    assert build == {"path": str(tmp_path)}


def test_caches_and_hidden_files_are_not_code(tmp_path: Path) -> None:
    path = written(tmp_path, main_py="", __pycache_____main_py="", _git_txt="")
    (tmp_path / "_git.txt").rename(tmp_path / ".hidden")
    (tmp_path / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "__pycache__" / "main.pyc").write_text("")
    for stray in tmp_path.rglob("*main.py"):
        if stray != tmp_path / "main.py":
            stray.unlink()
    assert "functionSourceCode" in pack_function(path).document["spec"]["build"]


def test_functions_without_code_lie_side_by_side(tmp_path: Path) -> None:
    """Two models of one folder could not be deployed: each file was missing code in the other."""
    for name in ("embeddings", "chat"):
        document = GOOD.replace("main:handler", "stoker.models.serve:handler")
        (tmp_path / f"{name}.yaml").write_text(document)
    package = pack_function(tmp_path / "chat.yaml")
    assert package.document["spec"]["build"] == {}


def test_a_missing_handler_module_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, other_py="")
    with pytest.raises(Failure, match="'main' is not in"):
        pack_function(path)


def test_a_relative_build_path_is_relative_to_the_file(tmp_path: Path) -> None:
    text = GOOD + "  build:\n    path: ./src\n"
    path = written(tmp_path, text, src__main_py="")
    assert pack_function(path).document["spec"]["build"]["path"] == str(tmp_path / "src")
    (tmp_path / "src" / "main.py").unlink()
    (tmp_path / "src").rmdir()
    with pytest.raises(Failure, match="there is no"):
        pack_function(path)


PROJECT = """\
kind: project
metadata:
  name: shop
spec:
  functions:
  - {url: graphs_not_used, name: x}
"""


def test_a_projects_functions_carry_its_name_and_label(tmp_path: Path) -> None:
    written(tmp_path / "functions" / "a", main_py="")
    written(tmp_path / "functions" / "b", GOOD.replace("hello", "shop-b"), main_py="")
    project = tmp_path / "project.yaml"
    urls = "".join(f"  - url: functions/{n}/function.yaml\n" for n in "ab")
    project.write_text(PROJECT.split("  - ")[0] + urls + "    name: named\n")
    packages = find_packages(tmp_path)
    assert [package.name for package in packages] == ["shop-hello", "shop-named"]
    assert {package.project for package in packages} == {"shop"}
    assert find_packages(project) == packages


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{url: hub://x, name: x}", ":6:5: spec.functions.0.url: must be a function.yaml"),
        ("{url: nowhere/function.yaml}", "there is no file"),
        ("just-text", "must be a function.yaml"),
    ],
)
def test_an_entry_that_cannot_be_deployed_is_named(tmp_path: Path, entry: str, says: str) -> None:
    (tmp_path / "project.yaml").write_text(PROJECT.split("  - ")[0] + f"  - {entry}\n")
    with pytest.raises(Failure) as caught:
        find_packages(tmp_path)
    assert says in caught.value.message


def test_nothing_to_deploy_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="neither"):
        find_packages(tmp_path)
    with pytest.raises(Failure, match="does not exist"):
        find_packages(tmp_path / "nowhere")


def test_data_is_text_or_a_file(tmp_path: Path) -> None:
    assert read_data(None) is None
    assert read_data("a") == b"a"
    (tmp_path / "x").write_bytes(b"\x00")
    assert read_data(f"@{tmp_path / 'x'}") == b"\x00"
    with pytest.raises(Failure):
        read_data(f"@{tmp_path / 'y'}")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"a": 1}', "application/json"),
        (b"[1]", "application/json"),
        (b"1", "text/plain"),
        (b"hello", "text/plain"),
        (b"\xff\x00", "application/octet-stream"),
    ],
)
def test_the_content_type_is_what_the_data_is(body: bytes, kind: str) -> None:
    assert guess_type(body) == kind


def test_keys_come_from_a_private_file_and_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\nboth-key\ncontrol: c-key\ndata: d-key\n")
    file.chmod(0o600)
    monkeypatch.delenv("STOKER_API_KEY", raising=False)
    keys = read_keys(file)
    assert keys.control == ("both-key", "c-key")
    assert keys.data == ("both-key", "d-key")
    assert read_keys(None).control == ()
    monkeypatch.setenv("STOKER_API_KEY", "env-key")
    assert read_keys(None).data == ("env-key",)


@pytest.mark.parametrize("line", ["control:", "data: ", "ключ", "control: a\tb"])
def test_a_key_that_no_client_can_bring_or_that_all_bring_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    """``control: $KEY``, written where KEY was not set, let everybody in without a key."""
    file = tmp_path / "keys"
    file.write_text(f"# ours\nboth-key\n{line}\n")
    file.chmod(0o600)
    monkeypatch.delenv("STOKER_API_KEY", raising=False)
    with pytest.raises(Failure, match="keys:3: a key must be printable ASCII") as caught:
        read_keys(file)
    assert "ключ" not in caught.value.message


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("key\n")
    file.chmod(0o644)
    with pytest.raises(Failure) as caught:
        read_keys(file)
    assert "chmod 600" in caught.value.hint
