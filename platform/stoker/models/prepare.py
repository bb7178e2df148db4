"""Preparing a model, once, as a build step: ``python -m stoker.models.prepare``.

Reads the function's environment (`stoker.nouns.settings`) and ``STOKER_HOME``, prints a line a
step, and exits with 0 when the checkpoint lies ready in the home, else with 1 and the reason.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from stoker.models.fidelity import TEXTS, check, compare
from stoker.models.layout import Layout, read_layout
from stoker.models.manifest import Manifest
from stoker.models.recipe import Recipe, choose
from stoker.models.shelf import Progress, Shelf
from stoker.models.source import Source, find
from stoker.models.tokens import TOKENIZER, Tokens
from stoker.nouns.errors import StokerError, UnusableModel
from stoker.nouns.home import Home
from stoker.nouns.quantity import format_bytes
from stoker.nouns.settings import ModelSettings, Quantization

_PEAK = 2.0
"""Disk that a preparation takes at its peak, over the bytes of the original's weights: the fp32
export, the int8 graph and the packed one lie side by side for a moment (1 + 0.26 + 0.37)."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A checkpoint that lies ready. ``built`` is False when it was there already."""

    folder: Path
    manifest: Manifest
    built: bool


def prepare(settings: ModelSettings, home: Home, progress: Progress) -> Prepared:
    """Makes what the settings declare, or finds it made.

    Raises:
        UnusableModel: the model is not there, or cannot be prepared so.
        InsufficientStorage: the disk of the home is too full.
    """
    source, recipe, shelf = find(settings.model), choose(settings), Shelf(home.models)
    digest = _digest(source, recipe, shelf)
    key = recipe.key(digest)
    work = _Work(source, recipe, digest, key, progress)
    earlier = shelf.find(key)
    needs = int(source.weight_bytes * _PEAK)
    folder = earlier or shelf.publish(key, work.build, needs=needs, progress=progress)
    shelf.note(recipe.declaration, {"stamp": source.stamp, "digest": digest, "key": key})
    return Prepared(folder, Manifest.of(folder), built=work.done)


def _digest(source: Source, recipe: Recipe, shelf: Shelf) -> str:
    """The source's digest, from the note of an earlier preparation if no file changed since."""
    note = shelf.recall(recipe.declaration)
    if note.get("stamp") == source.stamp and note.get("digest"):
        return str(note["digest"])
    return source.digest()


class _Work:
    """One preparation."""

    def __init__(
        self, source: Source, recipe: Recipe, digest: str, key: str, progress: Progress
    ) -> None:
        self.source = source
        self.recipe = recipe
        self.digest = digest
        self.key = key
        self.progress = progress
        self.done = False

    def build(self, folder: Path) -> None:
        """Fills ``folder``: weights, tokenizer, manifest."""
        started = time.monotonic()
        settings, layout = self.recipe.settings, read_layout(self.source.folder)
        self.progress(
            f"preparing {settings.model} as {settings.quantization} with {self.recipe.backend}"
        )
        _save_tokenizer(self.source.folder, folder)
        if self.recipe.backend == "onnxruntime":
            replaced, skipped = self._onnx(folder, layout)
        else:
            replaced, skipped = self._torch(folder), []
        manifest = Manifest(
            key=self.key,
            model=settings.model,
            source_digest=self.digest,
            task=settings.task,
            quantization=settings.quantization,
            backend=self.recipe.backend,
            bytes_before=self.source.weight_bytes,
            bytes_after=_weight_bytes(folder),
            replaced=replaced,
            skipped=skipped,
            libraries=self.recipe.libraries(),
            pooling=layout.pooling,
            max_tokens=layout.max_tokens,
        )
        manifest = self._verified(folder, manifest)
        manifest.model_copy(update={"seconds": round(time.monotonic() - started, 3)}).write(folder)
        self.done = True

    def _onnx(self, folder: Path, layout: Layout) -> tuple[list[str], list[str]]:
        from stoker.models import onnx_build

        steps = folder / "steps"
        steps.mkdir()
        self.progress("exporting the fp32 graph")
        onnx_build.export(self.source.folder, layout.pooling, steps / "fp32.onnx")
        self.progress("quantizing the weights, one scale an output channel")
        quantized = onnx_build.quantize(steps / "fp32.onnx", steps / "int8.onnx")
        self.progress(f"{len(quantized[0])} modules replaced, {len(quantized[1])} skipped")
        if not quantized[0]:
            raise UnusableModel(
                f"{self.recipe.settings.quantization} replaced no module of "
                f"{self.recipe.settings.model}: it has no weight matrix that this recipe knows"
            )
        self.progress("optimising the graph and packing its weights for this CPU")
        onnx_build.pack(steps / "int8.onnx", folder)
        shutil.rmtree(steps)
        return quantized

    def _torch(self, folder: Path) -> list[str]:
        import torch

        from stoker.models.torch_session import load_module

        dtypes = {Quantization.FP32: torch.float32, Quantization.BF16: torch.bfloat16}
        wanted = dtypes.get(self.recipe.settings.quantization, "auto")
        module = load_module(self.source.folder, wanted)
        before = load_module(self.source.folder, "auto")
        kept = {name: tensor.dtype for name, tensor in before.named_parameters()}
        changed = [n for n, p in module.named_parameters() if p.dtype != kept[n]]
        self.progress(f"saving the weights, {len(changed)} tensors converted")
        module.save_pretrained(str(folder))
        return sorted({name.rpartition(".")[0] for name in changed})

    def _verified(self, folder: Path, manifest: Manifest) -> Manifest:
        """Compares what was written, read back from disk, with the original in fp32."""
        import torch

        from stoker.models.encoder import Model
        from stoker.models.load import session
        from stoker.models.torch_session import TorchSession, load_module

        self.progress(f"comparing it with the original on {len(TEXTS)} texts")
        tokens = Tokens.of(folder, manifest.max_tokens)
        width = {"dimension": _dimension(self.source.folder)}
        manifest = manifest.model_copy(update=width)
        original = TorchSession(load_module(self.source.folder, torch.float32), manifest.pooling)
        expected = Model(original, tokens, manifest, folder).encode(TEXTS)
        prepared = session(folder, manifest, threads=1)
        fidelity = compare(expected, Model(prepared, tokens, manifest, folder).encode(TEXTS))
        check(fidelity, manifest.quantization)
        self.progress(f"mean cosine to the fp32 original {fidelity.mean}, least {fidelity.least}")
        return manifest.model_copy(update={"fidelity": fidelity})


def _save_tokenizer(source: Path, folder: Path) -> None:
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(source), trust_remote_code=False, local_files_only=True
        )
        tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    except Exception as exc:  # transformers and the Rust library raise anything here
        raise UnusableModel(
            f"{source} has no tokenizer that can be read as {TOKENIZER}: {exc}"
        ) from exc


def _dimension(source: Path) -> int:
    import transformers

    config = transformers.AutoConfig.from_pretrained(str(source), local_files_only=True)
    return int(config.hidden_size)


def _weight_bytes(folder: Path) -> int:
    patterns = ("*.safetensors", "*.onnx", "*.onnx.data")
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


def main() -> int:
    """The build step. Returns the exit code."""
    for library in ("torchao", "torch.utils._pytree"):
        # What they warn themselves of, once imported, would stand in the log of every deploy.
        logging.getLogger(library).setLevel(logging.ERROR)
    try:
        settings, home = ModelSettings.read(os.environ), Home.at()
        if not settings.model:
            raise UnusableModel("STOKER_MODEL is not set: there is nothing to prepare")
        result = prepare(settings, home, _say)
    except StokerError as exc:
        _say(f"error: {exc.message}")
        return 1
    made = result.manifest
    if report := os.environ.get("STOKER_PREPARE_REPORT"):
        # What the controller places the workers by (`stoker.nouns.record.ModelBytes`).
        Path(report).write_text(json.dumps({"key": made.key, "weights": made.bytes_after}))
    took = f"in {made.seconds:.1f} s" if result.built else "was ready"
    _say(
        f"model {made.model} ({made.quantization}, {made.backend}) {took}: "
        f"{format_bytes(made.bytes_before)} -> {format_bytes(made.bytes_after)}, {result.folder}"
    )
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
