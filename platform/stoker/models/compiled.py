"""Encoders compiled ahead of time (AOTInductor): by the build, once; workers map the library.

The compiled library holds no weights: it computes with the tensors that the module has mapped, so
all workers share them as before, and a wake opens one small file (under a millisecond) and never
compiles.
"""

from __future__ import annotations

import os
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.layout import DEFAULT_MAX_TOKENS, context_of
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LIBRARY = "compiled.so"
OUTPUTS = {Task.FEATURE_EXTRACTION: "last_hidden_state", Task.TEXT_CLASSIFICATION: "logits"}
"""The tasks that are compiled, and what each takes from the model."""
_MOST_ROWS = 4096
_SHAPES = ((1, 1), (1, 7), (2, 16), (5, 33))
_LEAST_COSINE = 0.999
_OPTIONS = {
    "aot_inductor.package_constants_in_so": False,
    "always_keep_tensor_constants": True,
    # Else the build's number of threads would be every worker's.
    "cpp.dynamic_threads": True,
}


def compiler() -> str:
    """The C++ compiler that torch calls; empty when there is none."""
    return shutil.which(os.environ.get("CXX") or "g++") or ""


def compile_into(folder: Path, module: PreTrainedModel, task: Task, names: Sequence[str]) -> None:
    """Writes the compiled library of a module into its checkpoint's folder.

    Args:
        folder: the checkpoint, with a folder ``steps`` for what is left over.
        module: as workers will have it.
        task: one of `OUTPUTS`.
        names: of its inputs, each [rows, tokens].

    Raises:
        UnusableModel: no compiler, the architecture cannot be compiled, or it computes otherwise.
    """
    import torch

    if not compiler():
        raise UnusableModel(
            "STOKER_COMPILE=1 needs a C++ compiler where the model is prepared, and there is no "
            "g++ (nor CXX): install g++; the nearest that works without is 0"
        )
    package = folder / "steps" / "compiled.pt2"
    try:
        with _quiet(), _cache_in(folder / "steps" / "inductor"), torch.no_grad():
            program = torch.export.export(
                _only(module, names, OUTPUTS[task]), _inputs(module, names, 2, 16),
                dynamic_shapes={"inputs": tuple([_axes(module)] * len(names))},
            )  # fmt: skip
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(package), inductor_configs=_OPTIONS
            )
        _unpack(package, folder / LIBRARY)
    except Exception as exc:  # torch's exporter and compiler raise anything
        raise UnusableModel(
            "STOKER_COMPILE=1: this architecture cannot be compiled "
            f"({type(exc).__name__}: {exc}); the nearest that works is 0"
        ) from exc
    _check(folder, module, task, names)


def run_compiled(
    module: PreTrainedModel, folder: Path, task: Task, names: Sequence[str]
) -> PreTrainedModel:
    """Lets the compiled library compute what the module is asked for, with the module's weights.

    What it was not compiled for (other inputs, more rows) the module computes itself.

    Raises:
        UnusableModel: the library does not fit the module.
    """
    run, eager, output = _opened(folder, module), module.forward, OUTPUTS[task]

    def forward(**inputs: Any) -> Any:
        from transformers.utils import ModelOutput

        given = {name for name, value in inputs.items() if value is not None}
        if given != set(names) or len(inputs[names[0]]) > _MOST_ROWS:
            return eager(**inputs)
        return ModelOutput({output: run([inputs[name] for name in names])})

    module.forward = forward
    return module


def _opened(folder: Path, module: PreTrainedModel) -> Callable[[list[torch.Tensor]], torch.Tensor]:
    import torch

    held = {f"module.{name}": tensor for name, tensor in module.state_dict().items()}
    held |= {f"module.{name}": tensor for name, tensor in module.named_buffers()}
    try:
        runner = torch._C._aoti.AOTIModelContainerRunnerCpu(str(folder / LIBRARY), 1)
        wanted = runner.get_constant_names_to_original_fqns()
        tensors = {inner: held[name] for inner, name in wanted.items()}
        # Its own: the runner only points at them.
        runner.update_constant_buffer(tensors, False, True, True)
    except (RuntimeError, KeyError) as exc:
        raise UnusableModel(f"{folder / LIBRARY} does not fit its checkpoint: {exc}") from exc

    def run(inputs: list[torch.Tensor], _kept: object = tensors) -> torch.Tensor:
        result: torch.Tensor = runner.run(inputs)[0]
        return result

    return run


def _only(module: PreTrainedModel, names: Sequence[str], output: str) -> Any:
    import torch

    class Only(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: torch.Tensor) -> Any:
            return getattr(self.module(**dict(zip(names, inputs, strict=True))), output)

    return Only().eval()


def _axes(module: PreTrainedModel) -> dict[int, Any]:
    import torch

    longest = context_of(module.config) or DEFAULT_MAX_TOKENS
    return {
        0: torch.export.Dim("rows", min=1, max=_MOST_ROWS),
        1: torch.export.Dim("tokens", min=1, max=longest),
    }


def _inputs(
    module: PreTrainedModel, names: Sequence[str], rows: int, tokens: int
) -> tuple[torch.Tensor, ...]:
    import torch

    generator = torch.Generator().manual_seed(rows * 1000 + tokens)
    made = {
        "input_ids": torch.randint(
            0, module.config.vocab_size, (rows, tokens), generator=generator
        ),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.long),
        "token_type_ids": torch.zeros(rows, tokens, dtype=torch.long),
    }
    made["attention_mask"][1:, tokens // 2 + 1 :] = 0
    return tuple(made[name] for name in names)


def _unpack(package: Path, target: Path) -> None:
    with zipfile.ZipFile(package) as held:
        (name,) = [one for one in held.namelist() if one.endswith(".so")]
        target.write_bytes(held.read(name))


def _check(folder: Path, module: PreTrainedModel, task: Task, names: Sequence[str]) -> None:
    """That it computes what the module computes, at shapes that it was not traced with too."""
    import torch

    run = _opened(folder, module)
    for rows, tokens in _SHAPES:
        given = _inputs(module, names, rows, tokens)
        with torch.inference_mode():
            expected = getattr(module(**dict(zip(names, given, strict=True))), OUTPUTS[task])
            found = run(list(given))
        if task is Task.FEATURE_EXTRACTION:  # padding's own vectors are nobody's
            seen = given[list(names).index("attention_mask")].bool()
            expected, found = expected[seen], found[seen]
        both = (expected.flatten().double(), found.flatten().double())
        cosine = float(torch.nn.functional.cosine_similarity(*both, dim=0))
        if not cosine >= _LEAST_COSINE:
            raise UnusableModel(
                f"STOKER_COMPILE=1: compiled, this model answers {rows} rows of {tokens} tokens "
                f"otherwise (cosine {cosine:.5f}, must be at least {_LEAST_COSINE}); the nearest "
                "that works is 0"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Else what torch warns itself of, in Python's own words, stands in the log of the deploy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """The compiler's own cache, which would be left in the machine's temporary folder."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]
        else:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = before
