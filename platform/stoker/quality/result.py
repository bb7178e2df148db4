"""What a run of the quality gate found: ``run.json``.

The report, the CLI, the MLRun job and the rollout's evidence are all made of this one document.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True)


class Interval(_Result):
    """An estimate and its confidence interval, by bootstrap over paired items."""

    value: float
    low: float
    high: float
    confidence: float = 0.95


class Check(_Result):
    """One thing that the gate looked at.

    Attributes:
        code: of the check, such as ``drop``, ``agreement``, ``nothing_quantized``, ``leak``.
        passed: whether it holds.
        words: the finding and the bound, in a sentence for people.
    """

    code: str
    passed: bool
    words: str


class MetricResult(_Result):
    """One metric on one set.

    Attributes:
        items: compared, the same for both.
        reference, candidate: the metric's values, each with an interval of its own.
        difference: candidate minus reference, over the same items.
        agreement: how alike the two answer, whatever the labels say: share of equal answers, or
            mean cosine of vectors; 1 is equal. None where the metric has no such notion.
    """

    set: str
    metric: str
    higher_is_better: bool = True
    items: int
    reference: Interval
    candidate: Interval
    difference: Interval
    agreement: float | None = None
    agreement_measure: str = ""


class Differing(_Result):
    """One item that the two answer differently. ``distance`` orders them, most different first."""

    set: str
    item: int
    input: str
    expected: str
    reference: str
    candidate: str
    distance: float


class Measured(_Result):
    """What it costs, measured on the workers as they will run.

    Attributes:
        weight_bytes: of the prepared checkpoint, which the workers of a host share.
        memory_bytes: proportional set size of one worker after the evaluation; None: not known.
        prepare_s: what preparing the checkpoint took, once.
        ready_s: from the start of a replica to its readiness.
        latency_ms: median of the handler's time by number of items in a request ("1", "16").
        items_per_s: over the evaluation.
    """

    weight_bytes: int = 0
    memory_bytes: int | None = None
    prepare_s: float = 0.0
    ready_s: float = 0.0
    latency_ms: dict[str, float] = Field(default_factory=dict)
    items_per_s: float = 0.0


class CandidateResult(_Result):
    """One recipe, or model, and how it did.

    Attributes:
        env: the variables that make it, over the function's own.
        manifest: of its prepared checkpoint, as `stoker.models.manifest` writes it; None where it
            has none.
        error: why it could not be built or evaluated; empty when it was.
        checks: what the gate looked at; the reference has none.
        passed: it was evaluated and every check holds.
        on_front: no other that passed is at least as good in quality, latency and bytes.
    """

    name: str
    env: dict[str, str] = Field(default_factory=dict)
    manifest: dict[str, Any] | None = None
    error: str = ""
    metrics: tuple[MetricResult, ...] = ()
    measured: Measured | None = None
    checks: tuple[Check, ...] = ()
    passed: bool = False
    differing: tuple[Differing, ...] = ()
    on_front: bool = False


class SetResult(_Result):
    """A labelled set as it was used. ``digest`` is of its items."""

    name: str
    items: int
    digest: str
    source: str = ""
    licence: str = ""


class QualityRun(_Result):
    """A whole run.

    Attributes:
        key: digest of everything that the verdict follows from: declaration, sets, sources,
            library versions. A second run with the same key is not evaluated again.
        verdict: ``winner``: one passed and is better than what serves; ``unchanged``: what serves
            is the best that passed; ``refused``: none passed.
        words: the verdict in a sentence or two.
        rollout: what became of the winner: ``state`` (``promoted``, ``rolled_back``, ``aborted``,
            ``superseded``, ``failed``), ``words``, and the rollout's history; None when not rolled
            out.
        accepted: digest of the function's ``quality.lock`` after the run.
        repeated: nothing had changed, and this is what an earlier run found.
    """

    format: Literal[1] = 1
    key: str
    function: str
    project: str
    started_at: float
    seconds: float = 0.0
    goal: str
    declaration: dict[str, Any] = Field(default_factory=dict)
    sets: tuple[SetResult, ...] = ()
    reference: CandidateResult
    candidates: tuple[CandidateResult, ...] = ()
    winner: str | None = None
    verdict: Literal["winner", "unchanged", "refused"] = "refused"
    words: str = ""
    rollout: dict[str, Any] | None = None
    accepted: str = ""
    repeated: bool = False
