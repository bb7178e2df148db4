"""From a set's answers to its metrics: the reference's and the candidate's, item by item."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stoker.nouns.errors import BadRequest
from stoker.quality.bootstrap import Floats, Paired, Sample, paired
from stoker.quality.declaration import EvaluationSet, MetricBound
from stoker.quality.metrics import Correlation, MacroF1, Mean, Perplexity, Whole
from stoker.quality.result import Differing, MetricResult
from stoker.quality.sets import LoadedSet

_ASKED = 200
"""Resamples for which a user's function is called, where it gives one number for all."""
SHOWN = 20
"""Most different items that are kept for the report."""


class Unscorable(Exception):
    """Answers that no metric can be made of. ``code`` is of the gate's check."""

    def __init__(self, code: str, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


@dataclass(frozen=True, slots=True)
class Scored:
    """A model's answers to one set, ready for its metrics.

    Attributes:
        samples: by metric.
        answers: one an item, as agreement and the report compare them.
    """

    samples: Mapping[str, Sample]
    answers: Sequence[Any]
    shown: Sequence[str] = field(default_factory=tuple)


Head = Callable[[Any], Any]
"""Vectors to labels, fitted once on the reference's."""


def fit_head(loaded: LoadedSet, answers: Sequence[Any]) -> Head:
    """A logistic head over the reference's vectors of the train part: the downstream that stays.

    Raises:
        Unscorable: the train part has one class, or the answers are no vectors.
    """
    from sklearn.linear_model import LogisticRegression

    labels = [str(item.expected) for item in loaded.train]
    if len(set(labels)) < 2:
        raise Unscorable("one_class", f"{loaded.declared.name}: the head's part has one class")
    head = LogisticRegression(max_iter=2000).fit(_vectors(answers), labels)
    predict: Head = head.predict
    return predict


def scored(loaded: LoadedSet, answers: Sequence[Any], head: Head | None, folder: Path) -> Scored:
    """What a model's answers are worth; ``answers`` has one for each of the set's texts.

    Raises:
        Unscorable: they are not what the kind needs, or a metric of the user's raises.
    """
    kind = loaded.declared.kind
    if kind == "similarity":
        return _similarity(loaded, answers)
    if kind == "classification":
        assert head is not None  # noqa: S101 - `run` fits one for each such set
        vectors = _vectors(answers)
        return _labelled(loaded, [str(one) for one in head(vectors)])
    if kind == "labels":
        return _labelled(loaded, [_label(one) for one in answers])
    if kind == "text":
        return _texts(loaded, answers)
    if kind == "perplexity":
        return _perplexity(answers)
    return _users(loaded, answers, folder)


def compare(loaded: LoadedSet, reference: Scored, candidate: Scored) -> list[MetricResult]:
    """Each declared metric of both, over the same items."""
    declared = loaded.declared
    agreement, measure = agree(declared, reference, candidate)
    found = []
    for bound in declared.metrics:
        name = metric_of(declared, bound)
        three = _paired(declared, reference.samples[name], candidate.samples[name])
        found.append(
            MetricResult(
                set=declared.name,
                metric=bound.name,
                higher_is_better=higher_is_better(declared, bound),
                items=reference.samples[name].items,
                reference=three.reference,
                candidate=three.candidate,
                difference=three.difference,
                agreement=agreement,
                agreement_measure=measure,
            )
        )
    return found


def _paired(declared: EvaluationSet, reference: Sample, candidate: Sample) -> Paired:
    asked = any(isinstance(one, Whole) for one in (reference, candidate))
    try:
        return paired(
            reference,
            candidate,
            confidence=declared.confidence,
            resamples=min(declared.resamples, _ASKED) if asked else declared.resamples,
            seed=declared.seed,
        )
    except Exception as exc:  # a user's function, on items that were drawn
        if not asked:
            raise
        words = f"{declared.name}: {declared.function} raised {type(exc).__name__}: {exc}"
        raise Unscorable("metric_failed", words) from exc


def higher_is_better(declared: EvaluationSet, bound: MetricBound) -> bool:
    """The metric's own direction."""
    return bound.higher_is_better if declared.kind == "user" else declared.kind != "perplexity"


def metric_of(declared: EvaluationSet, bound: MetricBound) -> str:
    """Under which name its sample is kept: a user's function makes one, however it is called."""
    return "user" if declared.kind == "user" else bound.name


def agree(declared: EvaluationSet, one: Scored, other: Scored) -> tuple[float | None, str]:
    """How alike the two answer, and by which measure; None where they cannot be compared."""
    distances = _distances(declared, one, other)
    if distances is None or not len(distances):
        return None, ""
    measure = "mean cosine" if declared.kind == "similarity" else "share of equal answers"
    return float(1 - distances.mean()), measure


def differing(
    loaded: LoadedSet, reference: Scored, candidate: Scored, count: int = SHOWN
) -> list[Differing]:
    """The items that the two answer most differently, the most different first."""
    distances = _distances(loaded.declared, reference, candidate)
    if distances is None:
        return []
    pairs = len(loaded.items) and len(distances) // len(loaded.items)
    by_item = distances.reshape(len(loaded.items), pairs).max(axis=1)
    order = [int(index) for index in np.argsort(-by_item, kind="stable")[:count]]
    return [
        Differing(
            set=loaded.declared.name, item=index, input=" | ".join(loaded.items[index].texts),
            expected=str(loaded.items[index].expected), reference=reference.shown[index],
            candidate=candidate.shown[index], distance=round(float(by_item[index]), 6),
        )
        for index in order
        if by_item[index] > 0
    ]  # fmt: skip


def _distances(declared: EvaluationSet, one: Scored, other: Scored) -> Floats | None:
    if declared.kind == "perplexity":
        return None
    if declared.kind == "similarity":
        a, b = np.asarray(one.answers), np.asarray(other.answers)
        if a.shape != b.shape:
            return None  # another model, whose vectors have another length
        return np.asarray(np.clip(1 - (a * b).sum(axis=1), 0, 2), dtype=np.float64)
    differ = [a != b for a, b in zip(one.answers, other.answers, strict=True)]
    return np.array(differ, dtype=np.float64)


def _similarity(loaded: LoadedSet, answers: Sequence[Any]) -> Scored:
    vectors = _vectors(answers)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(lengths > 0):
        raise Unscorable(
            "not_a_number", f"{loaded.declared.name}: a vector has the length 0, no cosine"
        )
    unit = vectors / lengths
    cosines = (unit[0::2] * unit[1::2]).sum(axis=1)
    labels = np.array([item.expected for item in loaded.items], dtype=np.float64)
    if float(np.ptp(cosines)) < 1e-9:
        raise Unscorable(
            "not_a_number", f"{loaded.declared.name}: all pairs have the same cosine, no ranks"
        )
    samples = {
        "spearman": Correlation(labels, cosines, ranks=True),
        "pearson": Correlation(labels, cosines, ranks=False),
    }
    return Scored(samples, unit, [f"cosine {one:.4f}" for one in cosines])


def _labelled(loaded: LoadedSet, predicted: Sequence[str]) -> Scored:
    labels = [str(item.expected) for item in loaded.items]
    right = [a == b for a, b in zip(labels, predicted, strict=True)]
    samples: dict[str, Sample] = {
        "accuracy": Mean(np.array(right, dtype=np.float64)),
        "f1": MacroF1(np.array(labels), np.array(predicted)),
    }
    return Scored(samples, list(predicted), list(predicted))


def _texts(loaded: LoadedSet, answers: Sequence[Any]) -> Scored:
    written = [_written(one) for one in answers]
    expected = [str(item.expected).strip() for item in loaded.items]
    right = [a == b for a, b in zip(expected, written, strict=True)]
    return Scored({"exact_match": Mean(np.array(right, dtype=np.float64))}, written, written)


def _perplexity(answers: Sequence[Any]) -> Scored:
    try:
        sums = [float(one["log_probability"]) for one in answers]
        counts = [float(one["tokens"]) for one in answers]
    except (TypeError, KeyError, ValueError) as exc:
        raise Unscorable(
            "metric_failed",
            f"a score must be {{'log_probability', 'tokens'}}, was {str(answers[0])[:80]}",
        ) from exc
    if not np.all(np.isfinite(sums)) or sum(counts) <= 0:
        raise Unscorable("not_a_number", "a log-probability is no finite number")
    shown = [f"{-one / max(1.0, n):.3f} nats a token" for one, n in zip(sums, counts, strict=True)]
    return Scored({"perplexity": Perplexity(np.array(sums), np.array(counts))}, answers, shown)


def _users(loaded: LoadedSet, answers: Sequence[Any], folder: Path) -> Scored:
    """The user's function: a number an item, or one for all."""
    declared = loaded.declared
    function = user_function(declared.function, folder)
    items = [
        {"texts": list(item.texts), "expected": item.expected, **item.rest} for item in loaded.items
    ]
    try:
        numbers = np.asarray(function(items, list(answers)), dtype=np.float64)
    except Exception as exc:  # the user's code raises what it likes
        words = f"{declared.name}: {declared.function} raised {type(exc).__name__}: {exc}"
        raise Unscorable("metric_failed", words) from exc
    if numbers.shape not in ((len(items),), ()):
        raise Unscorable(
            "metric_failed",
            f"{declared.name}: {declared.function} must give {len(items)} numbers, one an item, or "
            f"one number, gave {numbers.shape}",
        )
    if not np.all(np.isfinite(numbers)):
        raise Unscorable("not_a_number", f"{declared.name}: a score is no finite number")
    sample: Sample = Mean(numbers) if numbers.shape else Whole(function, items, answers)
    return Scored({"user": sample}, list(answers), [str(one)[:200] for one in answers])


def user_function(named: str, folder: Path) -> Callable[..., Any]:
    """The function of ``file.py:function``.

    Raises:
        BadRequest: the file or the function is not there, or the file cannot be run.
    """
    file, _, name = named.partition(":")
    path = folder / file
    if not path.is_file() or not name:
        raise BadRequest(f"function {named!r} must be <file>.py:<function>; there is no {path}")
    spec = importlib.util.spec_from_file_location(f"stoker_quality_{path.stem}", path)
    assert spec is not None  # noqa: S101 - a .py file has both
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as exc:
        raise BadRequest(f"{path} cannot be run: {type(exc).__name__}: {exc}") from exc
    function = getattr(module, name, None)
    if not callable(function):
        raise BadRequest(f"{path} has no function {name!r}")
    found: Callable[..., Any] = function
    return found


def _vectors(answers: Sequence[Any]) -> Floats:
    try:
        vectors = np.asarray(answers, dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise Unscorable(
            "metric_failed", f"the answers are no vectors of one length: {exc}"
        ) from exc
    if vectors.ndim != 2:
        raise Unscorable("metric_failed", f"an answer must be a vector, was {str(answers[0])[:80]}")
    if not np.all(np.isfinite(vectors)):
        raise Unscorable("not_a_number", "a vector has a number that is not finite")
    return vectors


def _label(answer: Any) -> str:
    """A reply's label: a text, or what a text-classification answers, the likeliest first."""
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if isinstance(answer, dict) and "label" in answer:
        answer = answer["label"]
    return str(answer).strip()


def _written(answer: Any) -> str:
    if isinstance(answer, dict) and "generated_text" in answer:
        answer = answer["generated_text"]
    return str(answer).strip()
