"""What each kind of zygote imports before it forks, and the environment that keeps that safe."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from stoker.nouns.launch import WorkerLaunch, ZygoteKind

THREAD_COUNTS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)

ENVIRONMENT = {
    # A thread pool that exists before a fork is broken in every child that uses it.
    **dict.fromkeys(THREAD_COUNTS, "1"),
    # Idle OpenMP threads of one worker must not burn the cores of the others.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Else asking whether there is a CUDA device creates a context, which no fork survives.
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    # onnxruntime and pyarrow each start a thread when they are imported, unless told not to.
    "ORT_DISABLE_TELEMETRY": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

_RUNTIME = ("stoker.worker.process",)
_REQUIRED: dict[ZygoteKind, tuple[str, ...]] = {
    ZygoteKind.PLAIN: _RUNTIME,
    ZygoteKind.TORCH: (*_RUNTIME, "numpy", "torch", "transformers"),
    ZygoteKind.MLRUN: (
        *_RUNTIME,
        "storey",
        "mlrun",
        "mlrun.serving",
        "mlrun.serving.serving_wrapper",
        "mlrun.serving.routers",
        "mlrun.serving.states",
        # What a graph that calls other functions needs: importing it takes longer than the wake.
        "stoker.sdk.graph.direct",
        "stoker.sdk.graph.steps",
        "stoker.worker.switchboard",
    ),
}
_OPTIONAL: dict[ZygoteKind, tuple[str, ...]] = {
    ZygoteKind.PLAIN: ("numpy",),
    ZygoteKind.TORCH: (
        "tokenizers",
        "safetensors.torch",
        "transformers.modeling_utils",
        "transformers.models.auto",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.models.bert.modeling_bert",
        "transformers.models.bert.tokenization_bert",
        "onnxruntime",
        "stoker.sdk.model",
        "stoker.models.load",
        "stoker.models.onnx_session",
        "stoker.models.torch_session",
        "stoker.models.tokens",
        "stoker.models.serve",
        "stoker.models.serving.running",
        "stoker.models.quantize.linears",
        "stoker.models.tasks.feature_extraction",
        "stoker.models.tasks.text_generation",
    ),
    ZygoteKind.MLRUN: ("pandas", "numpy"),
}


_ON_A_CPU = ("bitsandbytes",)
"""A second, and six on a busy machine, of every wake of an nf4 or fp4 model. Not where torch can
use a card: these choose their kernels by the cards that they see while they are imported, so that
only the worker that has the card may import them."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
CARDS = (Path("/dev/nvidiactl"), Path("/dev/dxg"), Path("/dev/kfd"))
"""One of them is there on a machine that has cards. Looked for, because to ask could start CUDA."""


def worker_environment(launch: WorkerLaunch) -> dict[str, str]:
    """What a worker's environment adds to its zygote's: its threads, and what was declared."""
    return {**dict.fromkeys(THREAD_COUNTS, str(launch.threads)), **launch.env}


class PreimportError(Exception):
    """A kind's packages are not installed or do not import."""


def preimport(kind: ZygoteKind) -> list[str]:
    """Import what ``kind`` promises; returns the modules imported.

    Raises:
        PreimportError: a required package is missing or broken.
    """
    with no_card_in_sight():
        done = [_required(kind, name) for name in _REQUIRED[kind]]
        done += [name for name in _OPTIONAL[kind] if _optional(name)]
        torch = sys.modules.get("torch")
        if torch is not None and not uses_cards(torch):
            done += [name for name in _ON_A_CPU if _optional(name)]
    if torch is not None:
        # Before any op: one op on several threads here hangs every child that uses threads.
        torch.set_num_threads(1)
    return done


@contextlib.contextmanager
def no_card_in_sight() -> Iterator[None]:
    """Within it CUDA would find no card, and torch says so without starting it.

    transformers imports torchao where it is installed, which asks a card for its capability while
    it is imported; and whatever else does so in a later version.
    """
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before


def uses_cards(torch: ModuleType) -> bool:
    """Whether this torch was built for cards and this machine has any; asks neither of them."""
    built = torch.version.cuda or torch.version.hip
    return bool(built) and any(path.exists() for path in CARDS)


def _required(kind: ZygoteKind, name: str) -> str:
    try:
        importlib.import_module(name)
    except ImportError as exc:
        raise PreimportError(
            f"the {kind} zygote needs {name}, which does not import: {exc}"
        ) from exc
    return name


def _optional(name: str) -> bool:
    top = name.partition(".")[0]
    try:
        if importlib.util.find_spec(top) is None or importlib.util.find_spec(name) is None:
            return False
        importlib.import_module(name)
    except ImportError:
        # A package that is there but broken is the business of the function that uses it.
        return False
    return True


def fork_hazard() -> str:
    """Why forking this process now would not be safe; empty when it is."""
    threads = sorted(os.listdir("/proc/self/task"))
    if len(threads) != 1:
        names = [Path(f"/proc/self/task/{thread}/comm").read_text().strip() for thread in threads]
        return f"the zygote has {len(threads)} threads ({', '.join(names)})"
    torch = sys.modules.get("torch")
    if (torch is not None and torch.cuda.is_initialized()) or CUDA_DEVICE in open_files():
        return "the zygote has touched CUDA"
    return ""


CUDA_DEVICE = "/dev/nvidia-uvm"
"""Held open by every process in which CUDA was initialised, by whichever library; not by NVML."""


def open_files() -> set[str]:
    """What this process's descriptors point to."""
    found = set()
    for entry in os.scandir("/proc/self/fd"):
        # That of the scan itself is closed by the time it is looked at.
        with contextlib.suppress(OSError):
            found.add(os.readlink(entry.path))
    return found


_READ_AT_START = ("PYTHON", "LD_", "MALLOC_", "GLIBC_TUNABLES")
_READ_AT_IMPORT = {
    "huggingface_hub": ("HF_", "HUGGINGFACE_", "HUGGING_FACE_"),
    "transformers": ("TRANSFORMERS_",),
}
_WITHOUT_EFFECT = frozenset({"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"})
"""Commonly set, and not worth a slow start: lines are written at once, caches are only caches."""


def set_too_late(launch: WorkerLaunch) -> str:
    """Why a fork would ignore a declared variable; empty when none is of that kind.

    The interpreter, the loader, the allocator and some libraries look at theirs only once.
    """
    prefixes: tuple[str, ...] = _READ_AT_START
    for module, own in _READ_AT_IMPORT.items():
        if module in sys.modules:
            prefixes += own
    names = sorted(
        name
        for name, value in launch.env.items()
        if name.startswith(prefixes)
        and name not in _WITHOUT_EFFECT
        and os.environ.get(name) != value
    )
    if not names:
        return ""
    return f"{', '.join(names[:5])} has an effect only before anything is imported"


def shadowed(launch: WorkerLaunch) -> str:
    """Why ``launch`` cannot use what is imported already; empty when it can.

    A fork would keep the zygote's version of every module that the function brings itself.
    """
    for folder in (launch.site_dir, launch.code_dir):
        if folder is None:
            continue
        names = sorted(_top_level_names(Path(folder)) & _imported_names())
        if names:
            return f"{folder} brings its own {', '.join(names[:5])}, imported by the zygote already"
    return ""


def _top_level_names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    names = set()
    for entry in folder.iterdir():
        if entry.suffix in (".py", ".so") and entry.is_file():
            names.add(entry.name.partition(".")[0])
        elif (entry / "__init__.py").is_file():
            names.add(entry.name)
    return names


def _imported_names() -> set[str]:
    # "main" and the like are no conflict unless they are really there.
    return {name for name in sys.modules if "." not in name and not name.startswith("_")}
