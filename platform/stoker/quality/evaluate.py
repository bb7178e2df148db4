"""The reference, then each candidate: tried, asked, scored and judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.decide import gate
from stoker.decide.pareto import front
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import ModelSettings
from stoker.quality.accepted import Accepted
from stoker.quality.declaration import (
    TEXT_FILES,
    Declaration,
    EvaluationSet,
    MetricBound,
    Recipe,
    TextSource,
)
from stoker.quality.package import Package
from stoker.quality.platform import Platform
from stoker.quality.result import CandidateResult, Check, Differing, Measured, MetricResult
from stoker.quality.score import (
    Head,
    Scored,
    Unscorable,
    compare,
    differing,
    fit_head,
    scored,
)
from stoker.quality.sets import LoadedSet, leaked, text_digest, texts_of
from stoker.quality.trial import Trial, TrialFailed, trial

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """The reference: what every candidate is compared with."""

    result: CandidateResult
    scores: Mapping[str, Scored]
    heads: Mapping[str, Head]
    measured: Measured
    problems: Sequence[gate.Finding] = ()


@dataclass(slots=True)
class Evaluation:
    """One run's evaluation.

    Attributes:
        target: the function's name on the platform.
        home: of the platform; None where it is on another machine.
        accepted: what was accepted before; None: nothing was.
    """

    platform: Platform
    package: Package
    declaration: Declaration
    sets: Sequence[LoadedSet]
    target: str
    project: str
    home: Path | None
    accepted: Accepted | None
    tell: Tell
    _seen: frozenset[str] = field(default=frozenset())

    def run(self) -> tuple[CandidateResult, list[CandidateResult]]:
        """The reference's result, and the candidates' in the order of the declaration.

        Raises:
            TrialFailed: the reference cannot be built or does not answer: nothing can be compared.
            BadRequest: a calibration or training source cannot be read.
        """
        declared = self.declaration
        self._seen = self._made_with([*declared.calibration, *declared.training])
        reference = self._reference()
        found = []
        for index, recipe in enumerate(declared.candidates, start=1):
            self.tell(f"candidate {index} of {len(declared.candidates)}: {recipe.name}")
            result = self._candidate(recipe, reference)
            self.tell(f"{recipe.name}: {_in_words(result)}")
            found.append(result)
        return reference.result, with_front(found)

    def _reference(self) -> Judged:
        recipe = self.declaration.reference
        self.tell(f"reference: {recipe.name}")
        with self._trial(recipe) as running:
            answers = {one.declared.name: self._ask(running, one) for one in self.sets}
            heads, scores, problems = {}, {}, []
            for one in self.sets:
                name = one.declared.name
                try:
                    if one.train:
                        train = [text for item in one.train for text in item.texts]
                        asking = self.declaration.asking(one.declared)
                        heads[name] = fit_head(one, running.answers(train, asking))
                    scores[name] = scored(one, answers[name], heads.get(name), self.package.folder)
                except Unscorable as exc:
                    words = f"the reference itself: {exc.words}"
                    problems.append(gate.Finding(exc.code, False, words))
            measured = self._measure(running)
            checkpoint = running.checkpoint
        metrics = [
            metric
            for one in self.sets
            if (own := scores.get(one.declared.name)) is not None
            for metric in compare(one, own, own)
            if is_finite(metric)
        ]
        result = CandidateResult(
            name=recipe.name,
            env=recipe.variables,
            manifest=checkpoint.document() if checkpoint else None,
            metrics=tuple(metrics),
            measured=measured,
        )
        return Judged(result, scores, heads, measured, problems)

    def _candidate(self, recipe: Recipe, reference: Judged) -> CandidateResult:
        try:
            with self._trial(recipe) as running:
                answers = {one.declared.name: self._ask(running, one) for one in self.sets}
                measured = self._measure(running)
                checkpoint = running.checkpoint
        except TrialFailed as exc:
            return CandidateResult(name=recipe.name, env=recipe.variables, error=exc.message)
        metrics, differ, findings = self._judge_answers(recipe, answers, reference)
        if checkpoint is not None:
            findings += gate.judge_checkpoint(checkpoint.facts(cast=self._casts(recipe)))
        findings += gate.judge_cost(
            self.declaration.goal,
            cost_facts(measured),
            cost_facts(reference.measured),
            self.declaration.limits.model_dump(),
        )
        return CandidateResult(
            name=recipe.name,
            env=recipe.variables,
            manifest=checkpoint.document() if checkpoint else None,
            metrics=tuple(metrics),
            measured=measured,
            checks=tuple(Check(code=f.code, passed=f.passed, words=f.words) for f in findings),
            passed=gate.holds(findings),
            differing=tuple(differ),
        )

    def _judge_answers(
        self, recipe: Recipe, answers: Mapping[str, list[Any]], reference: Judged
    ) -> tuple[list[MetricResult], list[Differing], list[gate.Finding]]:
        metrics: list[MetricResult] = []
        differ: list[Differing] = []
        now = {one.declared.name: one.digest for one in self.sets}
        before = self.accepted.sets if self.accepted else {}
        findings = [*reference.problems, *gate.judge_sets_unchanged(before, now)]
        try:
            made_with = self._seen | self._own_texts(recipe)
        except BadRequest as exc:
            made_with = self._seen
            words = f"not known what the recipe was made with: {exc.message}"
            findings.append(gate.Finding("leak", False, words))
        for one in self.sets:
            name = one.declared.name
            seen = leaked(one.items, made_with)
            findings += gate.judge_set(name, len(one.items), one.classes, seen)
            if name not in reference.scores:
                continue  # found above, as the reference's own problem
            try:
                own = scored(one, answers[name], reference.heads.get(name), self.package.folder)
                compared = compare(one, reference.scores[name], own)
            except Unscorable as exc:
                findings.append(gate.Finding(exc.code, False, exc.words))
                continue
            findings += self._judge_set(recipe, one.declared, compared)
            metrics += filter(is_finite, compared)
            differ += differing(one, reference.scores[name], own)
        return metrics, differ, findings

    def _judge_set(
        self, recipe: Recipe, declared: EvaluationSet, compared: Sequence[MetricResult]
    ) -> list[gate.Finding]:
        found = []
        for bound, metric in zip(declared.metrics, compared, strict=True):
            facts, bounds = metric_facts(metric), bounds_of(bound)
            found += gate.judge_metric(facts, bounds)
            what = f"{metric.set}/{metric.metric}"
            if self.accepted and what in self.accepted.reference:
                before = self.accepted.reference[what]
                found.append(gate.judge_reference(what, before, facts, bounds))
        # Another model has vectors of its own, and need not answer alike to be as good.
        if declared.agreement is not None and not recipe.model:
            one = compared[0]
            found.append(
                gate.judge_agreement(
                    declared.name, one.agreement_measure, one.agreement, declared.agreement
                )
            )
        return found

    def _trial(self, recipe: Recipe) -> Any:
        document = self.package.trial(self.target, recipe.name, recipe.variables, self.project)
        return trial(self.platform, document, self.home, lambda line: self.tell(f"  {line}"))

    def _ask(self, running: Trial, one: LoadedSet) -> list[Any]:
        self.tell(f"  {one.declared.name}: asking for {len(one.texts)} texts")
        return running.answers(one.texts, self.declaration.asking(one.declared))

    def _measure(self, running: Trial) -> Measured:
        first = self.sets[0]
        self.tell("  measuring latency and memory")
        asking = self.declaration.asking(first.declared)
        return running.measure(first.texts, asking, self.declaration.latency_items)

    def _casts(self, recipe: Recipe) -> bool:
        env = self.package.env | recipe.variables
        return ModelSettings.read(env).quantization.is_cast

    def _made_with(self, sources: Iterable[TextSource]) -> frozenset[str]:
        return frozenset(
            text_digest(text)
            for source in sources
            for text in texts_of(source, self.package.folder)
        )

    def _own_texts(self, recipe: Recipe) -> frozenset[str]:
        env = self.package.env | recipe.variables
        named = [env[name] for name in TEXT_FILES if env.get(name)]
        return self._made_with(TextSource(source=one, format="lines") for one in named)


def with_front(candidates: Sequence[CandidateResult]) -> list[CandidateResult]:
    """Marks those of the passed that no other passed one beats in quality, latency and bytes."""
    points = {
        one.name: (-quality(one), cost_facts(one.measured).latency, one.measured.weight_bytes)
        for one in candidates
        if one.passed and one.measured is not None
    }
    best = front(points)
    return [one.model_copy(update={"on_front": one.name in best}) for one in candidates]


def quality(one: CandidateResult) -> float:
    """Mean change of the metrics against the reference, as shares of its values; more is better."""
    changes = [
        metric.difference.value
        / (abs(metric.reference.value) or 1.0)
        * (1 if metric.higher_is_better else -1)
        for metric in one.metrics
    ]
    return sum(changes) / len(changes) if changes else 0.0


def is_finite(metric: MetricResult) -> bool:
    """Whether it can be kept: JSON has no other numbers. The gate has refused it before."""
    intervals = (metric.reference, metric.candidate, metric.difference)
    return all(math.isfinite(one) for i in intervals for one in (i.value, i.low, i.high))


def cost_facts(measured: Measured) -> gate.CostFacts:
    """For the gate and the choice."""
    return gate.CostFacts(
        measured.weight_bytes, measured.memory_bytes or 0, dict(measured.latency_ms)
    )


def metric_facts(metric: MetricResult) -> gate.MetricFacts:
    """For the gate."""
    difference = metric.difference
    return gate.MetricFacts(
        what=f"{metric.set}/{metric.metric}",
        higher_is_better=metric.higher_is_better,
        reference=metric.reference.value,
        candidate=metric.candidate.value,
        difference=difference.value,
        low=difference.low,
        high=difference.high,
    )


def bounds_of(bound: MetricBound) -> gate.Bounds:
    """For the gate."""
    return gate.Bounds(bound.at_least, bound.at_most, bound.max_drop, bound.max_relative_drop)


def _in_words(one: CandidateResult) -> str:
    if one.error:
        return f"could not be built: {one.error}"
    failed = [check.words for check in one.checks if not check.passed]
    return f"refused: {failed[0]}" if failed else "passed"
