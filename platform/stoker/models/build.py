"""Filling the folder of one prepared checkpoint: weights, tokenizer, manifest, comparison."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models import fidelity, probes
from stoker.models.calibration import Texts
from stoker.models.compress import alive
from stoker.models.gguf import dequantized
from stoker.models.layout import Layout, read_layout
from stoker.models.manifest import Calibrated, Fidelity, Manifest, Quantized
from stoker.models.methods import emulated
from stoker.models.original import load_config, load_original
from stoker.models.prepared import dtype_of, open_module, save_module, torch_dtype
from stoker.models.recipe import Recipe
from stoker.models.source import Source
from stoker.models.tasks.texts import open_tokenizer
from stoker.models.tokens import TOKENIZER, Tokens
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Dtype, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from stoker.models.encoder import Session

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".h5", ".onnx", ".msgpack")
_OWN = frozenset({"config.json", "generation_config.json", "manifest.json"})
_LARGE = 4 << 30
"""Above so many bytes of weights the original is compared as it is, not widened to fp32."""
_CHUNK = 1 << 24
_COMPILED_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_CALIBRATION_TEXTS = 1024
_SKIPPED_SHOWN = 4


class Build:
    """One preparation.

    Attributes:
        done: whether it was carried out.
    """

    def __init__(
        self, source: Source, recipe: Recipe, digest: str, key: str, progress: Callable[[str], None]
    ) -> None:
        self.source = source
        self.original = source
        self.recipe = recipe
        self.digest = digest
        self.key = key
        self.progress = progress
        self.done = False

    def fill(self, folder: Path) -> None:
        """Fills ``folder``: weights, tokenizer, manifest.

        Raises:
            UnusableModel: the model cannot be prepared so.
        """
        started = time.monotonic()
        settings = self.recipe.settings
        self.progress(
            f"preparing {settings.model} as {settings.quantization} with {self.recipe.backend}"
        )
        for notice in self.recipe.notices:
            self.progress(f"notice: {notice}")
        manifest = self._manifest()
        steps = folder / "steps"
        steps.mkdir()
        if self.source.gguf:
            self.progress("dequantizing the GGUF file, once")
            self.source = dequantized(self.source, settings.task, steps)
        self._save_files(folder)
        self.original = self.source
        manifest = self._compressed(folder, manifest)
        if self.recipe.backend == "onnxruntime":
            manifest = self._onnx(folder, manifest)
        else:
            manifest = self._torch(folder, manifest)
        if settings.compile:
            manifest = self._compiled(folder, manifest)
        facts: dict[str, object] = {
            "bytes_after": weight_bytes(folder), "read_seconds": round(read_seconds(folder), 4),
            "dimension": self._dimension() if self._encoder else 0,
        }  # fmt: skip
        manifest = manifest.model_copy(update=facts)
        found = self._compared(folder, manifest)
        shutil.rmtree(steps)
        took = round(time.monotonic() - started, 3)
        manifest.model_copy(update={"fidelity": found, "seconds": took}).write(folder)
        self.done = True

    def _manifest(self) -> Manifest:
        settings, encoder = self.recipe.settings, self._encoder
        layout = read_layout(self.source.folder) if encoder else Layout()
        return Manifest(
            key=self.key,
            model=settings.model,
            source_digest=self.digest,
            task=settings.task,
            quantization=settings.quantization,
            backend=self.recipe.backend,
            method=self.recipe.method.name,
            dtype=self.recipe.dtype,
            narrow=self.recipe.narrow,
            device=self.recipe.target.kind,
            trust_remote_code=settings.trust_remote_code,
            bytes_before=self.source.weight_bytes,
            libraries=self.recipe.libraries(),
            pooling=layout.pooling,
            max_tokens=layout.max_tokens,
        )

    @property
    def _encoder(self) -> bool:
        return self.recipe.settings.task is Task.FEATURE_EXTRACTION

    def _dimension(self) -> int:
        trust = self.recipe.settings.trust_remote_code
        return int(load_config(self.source, trust_remote_code=trust).hidden_size)

    def _save_files(self, folder: Path) -> None:
        """What belongs to the model besides weights, as it is: tokenizer, processor, code."""
        for path in self.source.folder.iterdir():
            if path.is_file() and _is_kept(path):
                shutil.copyfile(path, folder / path.name)
        if self._encoder:
            _save_tokenizer(self.source, folder, trust=self.recipe.settings.trust_remote_code)

    def _compressed(self, folder: Path, manifest: Manifest) -> Manifest:
        """Makes the model smaller, where that is declared: what comes after takes it as its own."""
        settings = self.recipe.settings
        if not (settings.prune or settings.distill):
            return manifest
        from stoker.models.compress.step import Compression

        work = Compression(self.source, settings, manifest.pooling, self.progress)
        made = work.write(folder / "steps", folder)
        self.source = made.source
        return manifest.model_copy(update={"pruned": made.pruned, "distilled": made.distilled})

    def _onnx(self, folder: Path, manifest: Manifest) -> Manifest:
        from stoker.models import onnx_build
        from stoker.models.quantize.plan import matches

        settings, steps = self.recipe.settings, folder / "steps"
        self.progress("exporting the fp32 graph")
        trust = settings.trust_remote_code
        onnx_build.export(self.source, manifest.pooling, steps / "fp32.onnx", trust=trust)
        self.progress("quantizing the weights, one scale an output channel")
        replaced, skipped = onnx_build.quantize(
            steps / "fp32.onnx", steps / "int8.onnx", settings.skip
        )
        declared = {
            name: "declared" if any(matches(name, one) for one in settings.skip) else "kind"
            for name in skipped
        }
        self.progress(in_words(len(replaced), declared))
        if not replaced:
            raise UnusableModel(
                f"{settings.quantization} replaced no module of {settings.model}: it has no weight "
                "matrix that this recipe knows; the nearest that works is 'bf16'"
            )
        self.progress("optimising the graph and packing its weights for this CPU")
        onnx_build.pack(steps / "int8.onnx", folder)
        return manifest.model_copy(update={"replaced": replaced, "skipped": skipped})

    def _torch(self, folder: Path, manifest: Manifest) -> Manifest:
        module = self._original(torch_dtype(self.recipe.dtype) or "auto")
        if not self.recipe.settings.quantization.is_cast:
            manifest = self._quantized(module, folder, manifest)
        if self.recipe.narrow:
            from stoker.models.narrow import narrow

            narrow(module)
        if self.recipe.dtype is Dtype.AUTO:  # else it was known before
            for notice in emulated(dtype_of(module), self.recipe.target, encoder=self._encoder):
                self.progress(f"notice: {notice}")
        if self.recipe.settings.quantization.is_cast:
            changed = self._cast_modules(module)
            self.progress(f"saving the weights, {len(changed)} modules converted")
            manifest = manifest.model_copy(update={"replaced": changed})
        else:
            self.progress("saving the weights")
        save_module(module, folder)
        return manifest

    def _original(self, dtype: Any, source: Source | None = None) -> PreTrainedModel:
        settings = self.recipe.settings
        trust = settings.trust_remote_code
        return load_original(source or self.source, settings.task, dtype, trust_remote_code=trust)

    def _cast_modules(self, module: PreTrainedModel) -> list[str]:
        if torch_dtype(self.recipe.dtype) is None:
            return []
        before = self._original("auto")
        kept = {name: one.dtype for name, one in before.named_parameters()}
        changed = [name for name, one in module.named_parameters() if one.dtype != kept[name]]
        return sorted({name.rpartition(".")[0] for name in changed})

    def _quantized(self, module: PreTrainedModel, folder: Path, manifest: Manifest) -> Manifest:
        from stoker.models.quantize import calibrated, make, plan

        method, device = self.recipe.method.name, self.recipe.target.kind
        planned = plan.plan(module, method, self.recipe.settings.skip, device=device)
        self.progress(in_words(len(planned.replace), planned.reasons))
        modules: dict[str, Quantized]
        facts: Calibrated | None = None
        if self.recipe.texts is None:
            modules = make.replace(module, planned, method, device=device, progress=self.progress)
        else:
            rows, facts = self._shown(module, folder, self.recipe.texts)
            modules = calibrated.replace(
                module, planned, method, rows, device=device, progress=self.progress
            )
        return manifest.model_copy(
            update={
                "modules": modules,
                "replaced": sorted(modules),
                "skipped": sorted(planned.reasons),
                "reasons": planned.reasons,
                "calibration": facts,
            }
        )

    def _shown(
        self, module: PreTrainedModel, folder: Path, texts: Texts
    ) -> tuple[list[dict[str, torch.Tensor]], Calibrated]:
        """The texts as the model's inputs, from the first on, as many as are worth their time."""
        from stoker.models.quantize.calibrated import TOKENS

        trust = self.recipe.settings.trust_remote_code
        chosen, tokens = [], 0
        for row in probes.rows(module, folder, texts.lines[:_CALIBRATION_TEXTS], trust=trust):
            if tokens >= TOKENS[self.recipe.method.name]:
                break
            chosen.append(row)
            tokens += row["input_ids"].numel()
        texts.write(folder)
        facts = texts.facts(len(chosen), tokens)
        self.progress(f"calibrating on {facts.used} of {facts.texts} texts, {facts.tokens} tokens")
        return chosen, facts

    def _compiled(self, folder: Path, manifest: Manifest) -> Manifest:
        from stoker.models.compiled import compile_into

        names = ["input_ids", "attention_mask"]
        if not self._encoder:
            tokenizer = open_tokenizer(folder, trust=manifest.trust_remote_code)
            names = [one for one in tokenizer.model_input_names if one in _COMPILED_INPUTS]
        self.progress("compiling it for this CPU, once: some minutes, more on busy cores")
        compile_into(folder, open_module(folder, manifest), manifest.task, names)
        return manifest.model_copy(update={"compiled": names})

    def _compared(self, folder: Path, manifest: Manifest) -> Fidelity:
        """Compares what was written, read back from disk, with the original in fp32.

        Raises:
            UnusableModel: it differs too much, or is not what was meant to be written.
        """
        self.progress("comparing it, as it was written, with the original")
        compared = self._encoders if self._encoder else self._heads
        found = compared(folder, manifest, self.source)
        fidelity.check(found, manifest.quantization)
        if self.source is self.original:
            self.progress(fidelity.in_words(found))
            return found
        self.progress(f"quantized beside unquantized, both compressed: {found.mean}")
        whole = compared(folder, manifest, self.original)
        alive.check(whole)
        self.progress(f"{fidelity.in_words(whole)}: what that is worth, your gate must say")
        return whole

    def _encoders(self, folder: Path, manifest: Manifest, against: Source) -> Fidelity:
        from stoker.models.encoder import Model
        from stoker.models.onnx_session import OnnxSession
        from stoker.models.torch_session import TorchSession

        tokens = Tokens.of(folder, manifest.max_tokens)
        original = TorchSession(self._original(self._reference, against), manifest.pooling)
        expected = Model(original, tokens, manifest, folder).encode(fidelity.TEXTS)
        # On the CPU, whatever it is made for: the card is not here, or is somebody else's.
        prepared: Session
        if manifest.backend == "onnxruntime":
            prepared = OnnxSession(folder, threads=1)
        else:
            module = open_module(folder, manifest)
            verify(module, manifest)
            prepared = TorchSession(module, manifest.pooling)
        found = Model(prepared, tokens, manifest, folder).encode(fidelity.TEXTS)
        return fidelity.compare(expected, found)

    def _heads(self, folder: Path, manifest: Manifest, against: Source) -> Fidelity:
        task = manifest.task
        trust = manifest.trust_remote_code
        original = self._original(self._reference, against)
        expected = probes.answers(original, task, folder, trust=trust)
        module = open_module(folder, manifest)
        verify(module, manifest)
        return probes.compared(expected, probes.answers(module, task, folder, trust=trust), task)

    @property
    def _reference(self) -> Any:
        import torch

        return torch.float32 if self.source.weight_bytes < _LARGE else "auto"


def in_words(replaced: int, skipped: Mapping[str, str]) -> str:
    """What was quantized and what was not, of that the first with why they stay.

    >>> in_words(210, {"model.embed_tokens": "embedding", "lm_head": "head"})
    '210 modules replaced, 2 skipped: model.embed_tokens (embedding), lm_head (head)'
    """
    words = f"{replaced} modules replaced, {len(skipped)} skipped"
    shown = [f"{name} ({why})" for name, why in list(skipped.items())[:_SKIPPED_SHOWN]]
    more = len(skipped) - len(shown)
    shown += [f"and {more} more"] if more else []
    return f"{words}: {', '.join(shown)}" if shown else words


def verify(module: Any, manifest: Manifest) -> None:
    """Compares a live model, read from disk, with what its manifest says of it.

    Raises:
        UnusableModel: modules are quantized that are not listed, or the reverse, or were left as
            they are without being listed as such.
    """
    if not manifest.modules:
        return
    from stoker.models.quantize.linears import QuantizedLinear
    from stoker.models.quantize.plan import matrices

    held = dict(matrices(module))
    live = {name for name, one in held.items() if isinstance(one, QuantizedLinear)}
    left = held.keys() - live - set(manifest.skipped)
    wrong = sorted((live ^ set(manifest.replaced)) | left)
    if wrong:
        raise UnusableModel(
            f"the prepared model does not have what its manifest lists: {', '.join(wrong[:6])}"
        )


def weight_bytes(folder: Path) -> int:
    """Of a prepared checkpoint's weights: what workers map."""
    return sum(path.stat().st_size for path in _weights(folder))


def read_seconds(folder: Path) -> float:
    """What reading the weights takes once they are in the page cache."""
    started = time.monotonic()
    for path in _weights(folder):
        with path.open("rb", buffering=0) as file:
            while file.read(_CHUNK):
                pass
    return time.monotonic() - started


def _weights(folder: Path) -> list[Path]:
    patterns = ("*.safetensors", "*.onnx", "*.onnx.data")
    return [path for pattern in patterns for path in folder.glob(pattern)]


def _is_kept(path: Path) -> bool:
    indexed = path.name.endswith((".index.json", ".md"))
    return path.suffix not in _WEIGHTS and path.name not in _OWN and not indexed


def _save_tokenizer(source: Source, folder: Path, *, trust: bool) -> None:
    tokenizer = open_tokenizer(source.folder, trust=trust)
    try:
        tokenizer.backend_tokenizer.save(str(folder / TOKENIZER))
    except Exception as exc:  # one in Python has no such part; the Rust library raises anything
        raise UnusableModel(
            f"{source.folder} has no tokenizer that can be read as {TOKENIZER}: {exc}"
        ) from exc
