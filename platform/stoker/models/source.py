"""Where a model's own files lie, and what identifies their content."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker.nouns.errors import UnusableModel

PACKAGE_SCHEME = "package://"
GGUF = ".gguf"
_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".model", ".jinja", ".py"})
"""What can change a model's answers. Pickled weights are not among them, except the file that the
user names."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model as it was found.

    Attributes:
        name: as the function declares it.
        folder: where its files lie.
        stamp: names, sizes and times of its files: changes whenever they are written, cheap.
        gguf: the name of the one file that it is, where it is a GGUF.
        pickled: the name of the file with its weights, where they are pickled.
    """

    name: str
    folder: Path
    stamp: str
    gguf: str = ""
    pickled: str = ""

    def digest(self) -> str:
        """SHA-256 over every file's name and content. Reads it all: seconds for gigabytes."""
        whole = hashlib.sha256()
        for path in _files(self.folder, self.gguf, self.pickled):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(self.folder)}\0{content}\n".encode())
        return whole.hexdigest()

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights on disk."""
        own = self.gguf or self.pickled
        paths = [self.folder / own] if own else self.folder.glob("*.safetensors")
        return sum(path.stat().st_size for path in paths)


def find(name: str, *, local: bool = False, pickled: str = "") -> Source:
    """Finds a model by folder, GGUF file, ``package://`` or hub name.

    Args:
        name: where the model is.
        pickled: a file of pickled weights that the user named; read instead of safetensors.
        local: take a hub's model as it was downloaded last, without asking the hub. A wake must
            neither wait for the network nor move on to other weights than were deployed.

    Raises:
        UnusableModel: it is not there, or is no model folder with safetensors weights.
    """
    place = _place(name, local, pickled)
    if place.is_file():
        return _gguf(name, place)
    _check(name, place, pickled)
    return Source(name, place, _stamp(place, pickled=pickled), pickled=pickled)


def _place(name: str, local: bool, pickled: str) -> Path:
    if name.startswith(PACKAGE_SCHEME):
        return in_package(name)
    if Path(name).expanduser().exists():
        return Path(name).expanduser().resolve()
    if name.startswith(("/", ".", "~")) or name.count("/") > 1:
        raise UnusableModel(f"STOKER_MODEL: there is no folder {name!r}")
    return _from_hub(name, local, pickled)


def _gguf(name: str, file: Path) -> Source:
    if file.suffix != GGUF:
        raise UnusableModel(
            f"STOKER_MODEL {name!r} is a file: must be a folder with config.json and safetensors, "
            f"or a {GGUF} file"
        )
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise UnusableModel(f"STOKER_MODEL {name!r}: {file} does not begin like a GGUF file")
    return Source(name, file.parent, _stamp(file.parent, gguf=file.name), gguf=file.name)


def in_package(name: str, variable: str = "STOKER_MODEL") -> Path:
    """The file or folder that a ``package://<module>/<path>`` means; the package is not imported.

    Raises:
        UnusableModel: it is not there, with the variable that asked for it.
    """
    module, _, path = name.removeprefix(PACKAGE_SCHEME).partition("/")
    if not module or "." in module:
        raise UnusableModel(f"{variable} must be package://<top-level module>/<path>, was {name!r}")
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise UnusableModel(f"{variable} {name!r}: no package {module!r} is installed")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    folder = (root / path).resolve()
    if not folder.is_relative_to(root) or not folder.exists():
        raise UnusableModel(f"{variable} {name!r}: {module!r} has no folder {path!r}")
    return folder


def _from_hub(name: str, local: bool, pickled: str) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [f"*{suffix}" for suffix in sorted(_SUFFIXES)] + ([pickled] if pickled else [])
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


def _check(name: str, folder: Path, pickled: str) -> None:
    if not (folder / "config.json").is_file():
        raise UnusableModel(f"STOKER_MODEL {name!r}: {folder} has no config.json")
    if pickled:
        if Path(pickled).name != pickled or not (folder / pickled).is_file():
            raise UnusableModel(f"STOKER_PICKLED_WEIGHTS: {folder} has no file {pickled!r}")
        return
    if next(folder.glob("*.safetensors"), None) is None:
        raise UnusableModel(
            f"STOKER_MODEL {name!r}: {folder} has no *.safetensors weights; pickled weights are "
            "not read, because reading them can run code, unless STOKER_PICKLED_WEIGHTS names "
            "their file"
        )


def _files(folder: Path, gguf: str = "", pickled: str = "") -> Iterator[Path]:
    if gguf:
        yield folder / gguf
        return
    for path in sorted(folder.rglob("*")):
        if (path.suffix in _SUFFIXES or path.name == pickled) and path.is_file():
            yield path


def _stamp(folder: Path, *, gguf: str = "", pickled: str = "") -> str:
    whole = hashlib.sha256()
    for path in _files(folder, gguf, pickled):
        facts = path.stat()
        line = f"{path.relative_to(folder)}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
        whole.update(line.encode())
    return whole.hexdigest()
