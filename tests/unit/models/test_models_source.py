"""Finding a model's own files."""

import sys

import pytest

from stoker.models.source import find
from stoker.nouns.errors import UnusableModel


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text("{}")
    (place / "model.safetensors").write_bytes(b"weights")
    return place


@pytest.fixture
def package(tmp_path, folder, monkeypatch):
    root = tmp_path / "carrier"
    root.mkdir()
    (root / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    folder.rename(root / "model")
    monkeypatch.syspath_prepend(tmp_path)
    return root


def refusal(name):
    with pytest.raises(UnusableModel) as refused:
        find(str(name))
    return refused.value.message


def test_a_folder_is_found_where_it_lies(folder):
    assert find(str(folder)).folder == folder
    assert find(str(folder)).weight_bytes == 7


def test_a_package_s_files_are_found_without_importing_it(package):
    assert find("package://carrier/model").folder == package / "model"
    assert "carrier" not in sys.modules


def test_a_package_path_cannot_leave_the_package(package):
    (package.parent / "elsewhere").mkdir()
    assert "has no folder" in refusal("package://carrier/../elsewhere")


def test_a_package_that_is_not_installed_is_named():
    assert "no package 'nowhere_at_all'" in refusal("package://nowhere_at_all/model")


def test_a_missing_folder_is_never_looked_up_on_the_hub(tmp_path):
    assert "there is no folder" in refusal(tmp_path / "gone")


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


def test_pickled_weights_alone_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "STOKER_PICKLED_WEIGHTS names" in refusal(folder)


def test_the_digest_is_of_the_content_and_not_of_the_place(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert find(str(copy)).digest() == find(str(folder)).digest()


def test_rewriting_the_weights_changes_stamp_and_digest(folder):
    before = find(str(folder))
    stamp, digest = before.stamp, before.digest()
    (folder / "model.safetensors").write_bytes(b"other weights")
    after = find(str(folder))
    assert after.stamp != stamp
    assert after.digest() != digest


def test_a_gguf_file_is_a_model_by_itself(folder):
    file = folder / "tiny.gguf"
    file.write_bytes(b"GGUF and more")
    source = find(str(file))
    assert (source.gguf, source.weight_bytes) == ("tiny.gguf", 13)
    stamp = source.stamp
    (folder / "config.json").write_text('{"a": 1}')
    assert find(str(file)).stamp == stamp


@pytest.mark.parametrize("name", ["tiny.gguf", "model.bin"])
def test_another_file_is_refused(folder, name):
    (folder / name).write_bytes(b"none")
    assert "GGUF file" in refusal(folder / name) or ".gguf file" in refusal(folder / name)


def test_only_the_pickled_file_that_was_named_is_read(folder):
    (folder / "weights.bin").write_bytes(b"123")
    assert find(str(folder), pickled="weights.bin").weight_bytes == 3
    with pytest.raises(UnusableModel, match=r"has no file 'other\.bin'"):
        find(str(folder), pickled="other.bin")
