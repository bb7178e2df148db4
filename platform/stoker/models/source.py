"""Where a model's own files lie, and what identifies their content."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker.nouns.errors import UnusableModel

PACKAGE_SCHEME = "package://"
_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja"})
"""What can change a model's answers. Pickled weights are not among them: they are never read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it was found.

    Attributes:
        name: as the function declares it.
        folder: where its files lie.
        stamp: names, sizes and times of its files: changes whenever they are written, cheap.
    """

    name: str
    folder: Path
    stamp: str

    def digest(self) -> str:
        """SHA-256 over every file's name and content. Reads it all: seconds for gigabytes."""
        whole = hashlib.sha256()
        for path in _files(self.folder):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(self.folder)}\0{content}\n".encode())
        return whole.hexdigest()

    @property
    def weight_bytes(self) -> int:
        """Bytes of its safetensors files."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))


def find(name: str, *, local: bool = False) -> Source:
    """Finds a model by folder, ``package://`` or hub name.

    Args:
        name: where the model is.
        local: take a hub's model as it was downloaded last, without asking the hub. A wake must
            neither wait for the network nor move on to other weights than were deployed.

    Raises:
        UnusableModel: it is not there, or is no model folder with safetensors weights.
    """
    if name.startswith(PACKAGE_SCHEME):
        folder = _in_package(name)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    elif name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UnusableModel(f"STOKER_MODEL: there is no folder {name!r}")
    else:
        folder = _from_hub(name, local)
    _check(name, folder)
    return Source(name, folder, _stamp(folder))


def _in_package(name: str) -> Path:
    module, _, path = name.removeprefix(PACKAGE_SCHEME).partition("/")
    if not module or "." in module:
        raise UnusableModel(
            f"STOKER_MODEL must be package://<top-level module>/<path>, was {name!r}"
        )
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UnusableModel(f"STOKER_MODEL {name!r}: no package {module!r} is installed")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    folder = (root / path).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise UnusableModel(f"STOKER_MODEL {name!r}: {module!r} has no folder {path!r}")
    return folder


def _from_hub(name: str, local: bool) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in sorted(_SUFFIXES)]
    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=patterns,
                ignore_patterns=["onnx/*"],
                local_files_only=local,
            )
        )
    except Exception as exc:
        raise UnusableModel(
            f"STOKER_MODEL {name!r} is no folder, and the model hub did not give it: {exc}"
        ) from exc


def _check(name: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UnusableModel(f"STOKER_MODEL {name!r}: {folder} has no config.json")
    if next(folder.glob("*.safetensors"), None) is None:
        raise UnusableModel(
            f"STOKER_MODEL {name!r}: {folder} has no *.safetensors weights; "
            "pickled weights are not read, because reading them runs code"
        )


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            yield path


def _stamp(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in _files(folder):
        facts = path.stat()
        line = f"{path.relative_to(folder)}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
        whole.update(line.encode())
    return whole.hexdigest()
