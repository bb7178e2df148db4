"""From a declaration and a device to the way of preparing it, and the key that names the result."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import json
from dataclasses import dataclass
from functools import cache

from stoker.models import calibration, device
from stoker.models.compress import compression
from stoker.models.device import Target
from stoker.models.manifest import Backend
from stoker.models.methods import Method, emulated, method_for
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Attention, Dtype, ModelSettings, Quantization, Task

RECIPE_VERSION = 5
"""Raised when a recipe's result changes, so that what older versions prepared is not taken."""

_LIBRARIES: dict[Backend, tuple[str, ...]] = {
    "torch": ("torch", "transformers", "safetensors", "tokenizers"),
    "torchao": ("torchao", "torch", "transformers", "safetensors", "tokenizers"),
    "bitsandbytes": ("bitsandbytes", "torch", "transformers", "safetensors", "tokenizers"),
    "neural-compressor": (
        "neural-compressor", "torchao", "torch", "transformers", "safetensors", "tokenizers",
    ),
    "onnxruntime": ("onnxruntime", "onnx", "onnxscript", "torch", "transformers", "tokenizers"),
}  # fmt: skip
_RUNS_IN: dict[Backend, str] = {
    "torch": "torch",
    "torchao": "torch",  # quantizes; what it made is computed by torch's own operators
    "bitsandbytes": "bitsandbytes",
    "neural-compressor": "torch",
    "onnxruntime": "onnxruntime",
}
_CALIBRATES = frozenset({Quantization.GPTQ, Quantization.AWQ})
_WITHOUT_TEXTS = frozenset({Task.IMAGE_CLASSIFICATION, Task.AUTOMATIC_SPEECH_RECOGNITION})
_COMPILED = frozenset({Task.FEATURE_EXTRACTION, Task.TEXT_CLASSIFICATION})
_OF_CASTS = {
    Quantization.FP32: Dtype.FP32, Quantization.BF16: Dtype.BF16, Quantization.FP16: Dtype.FP16,
}  # fmt: skip
_NARROW_CAST = (
    "this CPU has no bf16 instructions: the weights are kept in bf16 and computed with in fp32"
)
_FLASH = frozenset({Attention.FLASH_ATTENTION_2, Attention.FLASH_ATTENTION_3})


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one declaration is carried out on one kind of device.

    Attributes:
        method: the library and what it is asked for.
        dtype: of activations and of what is not quantized; ``auto`` is the checkpoint's own.
        target: the device.
        processor: of the CPU that weights are packed for; empty where they are not.
        notices: what the user should know, a line each.
        texts: what it calibrates on, where the method does.
        narrow: whether weights that are not quantized are kept in bf16, and widened to ``dtype``
            when a layer computes with them: see `stoker.models.narrow`.
    """

    settings: ModelSettings
    method: Method
    dtype: Dtype
    target: Target
    processor: str = ""
    notices: tuple[str, ...] = ()
    texts: calibration.Texts | None = None
    narrow: bool = False

    @property
    def backend(self) -> Backend:
        """The library that makes the checkpoint."""
        return self.method.backend

    @property
    def declaration(self) -> str:
        """Names the declaration and what runs it, whatever the model's content is."""
        name = _RUNS_IN[self.backend]
        # bitsandbytes is not imported for its version: a load that is refused should be quick.
        engine = (
            _version(name)
            if name == "bitsandbytes"
            else str(importlib.import_module(name).__version__)
        )
        return _digest([*self._facts(), engine, self.settings.model])

    def key(self, source_digest: str) -> str:
        """Names the prepared checkpoint: source, recipe and every library that has a part in it."""
        return _digest([*self._facts(), sorted(self.libraries().items()), source_digest])

    def libraries(self) -> dict[str, str]:
        """The versions of what prepares it. Reads installed metadata, too slow for the wake."""
        names = {*_LIBRARIES[self.backend], *compression.libraries(self.settings)}
        return {name: _version(name) for name in sorted(names)}

    def _facts(self) -> list[object]:
        chosen = self.settings
        return [
            RECIPE_VERSION, chosen.task, chosen.quantization, self.backend, self.method.name,
            self.dtype, str(self.target), self.processor, list(chosen.skip),
            chosen.pickled_weights, chosen.trust_remote_code, *compression.facts(chosen),
            self.texts.digest if self.texts else "", chosen.compile, self.narrow,
        ]  # fmt: skip


def choose(settings: ModelSettings, target: Target | None = None) -> Recipe:
    """The recipe for a declaration on a device; without one, on this process's.

    Raises:
        UnusableModel: something declared does not work there, with the nearest that does.
    """
    target = target or device.target()
    _refuse_unacted(settings, target)
    encoder = settings.task is Task.FEATURE_EXTRACTION
    method, notices = method_for(settings.quantization, target, encoder=encoder)
    dtype = _dtype(settings, method, target)
    narrow = _narrow(settings, method, target)
    if narrow:
        dtype = Dtype.FP32
        notices += (_NARROW_CAST,) if settings.quantization.is_cast else ()
    _check_fit(settings, method, target)
    compression.check(settings)
    notices += emulated(dtype, target, encoder=encoder) + compression.notices(settings)
    _check_compiled(settings, method, target)
    packed = (method.packs or settings.compile) and target.kind == "cpu"
    texts = _texts(settings) if method.calibrates else None
    named = processor() if packed else ""
    return Recipe(settings, method, dtype, target, named, notices, texts, narrow)


def _narrow(settings: ModelSettings, method: Method, target: Target) -> bool:
    """Whether the CPU only emulates bf16, and nobody said that it should."""
    whole = settings.quantization in (Quantization.NONE, Quantization.FP32)
    alone = settings.tensor_parallel == 1 and not settings.compile
    slow = target.kind == "cpu" and not target.bf16
    ours = method.backend != "onnxruntime"
    return slow and alone and ours and not whole and settings.dtype is Dtype.AUTO


def _check_compiled(settings: ModelSettings, method: Method, target: Target) -> None:
    if not settings.compile:
        return
    why = ""
    if target.kind != "cpu":
        why = "is carried out on a CPU only"
    elif settings.task not in _COMPILED:
        names = " and ".join(sorted(_COMPILED))
        why = f"is carried out for {names} only, STOKER_TASK is {settings.task}"
    elif method.backend != "torch":
        why = (
            f"does not apply to {settings.quantization}, whose kernels are {method.backend}'s; it "
            "does to none, fp32 and bf16"
        )
    elif settings.adapters or settings.device_map or settings.attention is not Attention.AUTO:
        why = "does not go with STOKER_ADAPTER, STOKER_DEVICE_MAP or STOKER_ATTENTION"
    if why:
        raise _refusal("STOKER_COMPILE", 1, why, "0")


def _texts(settings: ModelSettings) -> calibration.Texts:
    name = settings.quantization
    if settings.task in _WITHOUT_TEXTS:
        raise _refusal(
            "STOKER_QUANTIZATION", name,
            f"calibrates on texts, and {settings.task} takes none", "'int4'",
        )  # fmt: skip
    if not settings.calibration:
        raise UnusableModel(
            f"STOKER_QUANTIZATION={name} calibrates on texts like those that the model will get: "
            "STOKER_CALIBRATION must name a file of them, one a line (a path, or "
            "package://<module>/<path>); what needs none is 'int4'"
        )
    return calibration.read(settings.calibration)


def _refuse_unacted(settings: ModelSettings, target: Target) -> None:
    """A variable must act or be refused: silently ignored, it would only seem to work."""
    if settings.tensor_parallel > 1:
        _refuse_unsplit(settings)
    if settings.calibration and settings.quantization not in _CALIBRATES:
        raise UnusableModel(
            f"STOKER_CALIBRATION is for gptq and awq; {settings.quantization} takes no texts: "
            "leave it out"
        )
    if settings.offload != "none" and not settings.device_map:
        raise UnusableModel(
            f"STOKER_OFFLOAD={settings.offload} needs STOKER_DEVICE_MAP, such as 'auto': without "
            "one, all of the model is on the worker's first device"
        )
    if settings.attention in _FLASH and target.kind == "cpu":
        raise _refusal(
            "STOKER_ATTENTION", settings.attention, "needs a card, and this is a CPU", "sdpa"
        )


def _refuse_unsplit(settings: ModelSettings) -> None:
    """What does not go together with a model that is split over processes."""
    others = {
        "STOKER_QUANTIZATION": (settings.quantization, not settings.quantization.is_cast, "bf16"),
        "STOKER_DEVICE_MAP": (settings.device_map, bool(settings.device_map), "an empty one"),
        "STOKER_COMPILE": (1, settings.compile, "0"),
        "STOKER_ADAPTER": (
            ", ".join(settings.adapters), bool(settings.adapters), "a merged model",
        ),
        "STOKER_TASK": (
            settings.task, settings.task is Task.AUTOMATIC_SPEECH_RECOGNITION,
            "STOKER_TENSOR_PARALLEL=1",
        ),
    }  # fmt: skip
    for variable, (value, clashes, instead) in others.items():
        if clashes:
            why = f"does not go with STOKER_TENSOR_PARALLEL={settings.tensor_parallel}"
            raise _refusal(variable, value, why, instead)


def _check_fit(settings: ModelSettings, method: Method, target: Target) -> None:
    if settings.skip and settings.quantization.is_cast:
        raise UnusableModel(
            f"STOKER_QUANTIZATION_SKIP has nothing to keep from being quantized: "
            f"STOKER_QUANTIZATION is {settings.quantization}"
        )
    if method.backend != "onnxruntime":
        return
    if settings.attention not in (Attention.AUTO, Attention.EAGER):
        raise _refusal(
            "STOKER_ATTENTION", settings.attention,
            f"does not apply to {settings.quantization} on the {target.kind}, which ONNX Runtime "
            "computes", "auto",
        )  # fmt: skip
    if settings.adapters:
        raise _refusal(
            "STOKER_ADAPTER", ", ".join(settings.adapters),
            f"does not apply to {settings.quantization} of an encoder on the CPU, which ONNX "
            "Runtime computes", "STOKER_QUANTIZATION=bf16, or a merged model",
        )  # fmt: skip
    if settings.device_map:
        raise _refusal(
            "STOKER_DEVICE_MAP", settings.device_map,
            f"does not apply to {settings.quantization} of an encoder on the CPU", "an empty one",
        )  # fmt: skip


def _dtype(settings: ModelSettings, method: Method, target: Target) -> Dtype:
    declared, cast = settings.dtype, _OF_CASTS.get(settings.quantization)
    if cast:
        if declared not in (Dtype.AUTO, cast):
            raise _refusal(
                "STOKER_DTYPE", declared,
                f"contradicts STOKER_QUANTIZATION={settings.quantization}", "auto",
            )  # fmt: skip
        return method.dtype or cast
    if method.dtypes and declared not in (Dtype.AUTO, *method.dtypes):
        raise _refusal(
            "STOKER_DTYPE", declared,
            f"does not work with {settings.quantization} by {method.backend} on the {target.kind}",
            str(method.dtypes[0]),
        )  # fmt: skip
    if declared is not Dtype.AUTO:
        return declared
    if settings.quantization is Quantization.NONE:
        return Dtype.AUTO
    return method.dtype or (Dtype.BF16 if target.bf16 else method.dtypes[-1])


def _refusal(variable: str, value: object, why: str, instead: str) -> UnusableModel:
    return UnusableModel(f"{variable}={value} {why}; the nearest that works is {instead}")


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def processor() -> str:
    """What of the CPU decides how weights are packed for it: its instruction sets.

    Packed for one CPU and mapped on another, the weights would be read in the wrong order.
    """
    return hashlib.sha256(" ".join(device.cpu_flags()).encode()).hexdigest()[:12]


def _digest(facts: list[object]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
