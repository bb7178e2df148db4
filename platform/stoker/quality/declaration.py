"""``quality.yaml``: what a function's recipes are judged by."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from stoker.nouns.rollout import CanarySpec

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,28}[a-z0-9])?")
"""Of a recipe: part of the name of the function that it is tried as."""
Kind = Literal["similarity", "classification", "labels", "text", "perplexity", "user"]
Goal = Literal["smallest", "fastest", "cheapest"]
METRICS: dict[Kind, tuple[str, ...]] = {
    "similarity": ("spearman", "pearson"),
    "classification": ("accuracy", "f1"),
    "labels": ("accuracy", "f1"),
    "text": ("exact_match",),
    "perplexity": ("perplexity",),
}
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "similarity": ("first", "second", "score"),
    "classification": ("text", "label"),
    "labels": ("text", "label"),
    "text": ("text", "expected"),
    "perplexity": ("text",),
    "user": ("text",),
}
"""What a set of a kind needs of each row. ``user`` may name others, which its function is given."""


def _holds(value: Any, mark: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(one, mark) for one in value.values())
    if isinstance(value, list):
        return any(_holds(one, mark) for one in value)
    return bool(value == mark)


TEXT_FILES = ("STOKER_CALIBRATION", "STOKER_DISTILL_DATA")
"""Variables of a recipe that name a file of texts, one a line, which it is made with."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ask(_Section):
    """How items become requests, and where their answers stand.

    Attributes:
        path: after the function's name.
        body: the JSON to send, in which ``"$texts"`` stands for a list of texts and ``"$text"`` for
            one. With ``"$text"``, a request has one item.
        answer: dotted path to the list of answers, one a text; with ``"$text"``, to the answer.
        items: texts in a request.
        concurrency: requests at once.
    """

    path: str = "/"
    body: Any = {"texts": "$texts"}
    answer: str = "embeddings"
    items: int = Field(default=16, ge=1, le=1024)
    concurrency: int = Field(default=2, ge=1, le=64)

    @field_validator("body")
    @classmethod
    def _has_a_place(cls, value: Any) -> Any:
        if not _holds(value, "$texts") and not _holds(value, "$text"):
            raise ValueError(
                'must hold "$texts" (a list of texts) or "$text" (one), where they belong in the '
                f"request, was {value!r}"
            )
        return value

    @property
    def single(self) -> bool:
        """Whether a request has one text."""
        return not _holds(self.body, "$texts")


INPUTS = Ask(body={"inputs": "$texts"}, answer="outputs", items=8)
"""Of functions without code (docs/models.md)."""
ASKS: dict[Kind, Ask] = {
    "labels": INPUTS,
    "text": INPUTS,
    "perplexity": INPUTS.model_copy(
        update={"body": {"inputs": "$texts", "parameters": {"score": True}}}
    ),
}


class MetricBound(_Section):
    """A metric and what it may not cross.

    Attributes:
        name: see ``METRICS``; of a ``user`` set any name.
        at_least: the candidate's value (``at_most`` where lower is better).
        max_drop: how much worse than the reference it may be, in the metric's own unit. The whole
            confidence interval of the paired difference has to keep it.
        max_relative_drop: the same, as a share of the reference's value.
        higher_is_better: of a ``user`` metric; the others know it.
    """

    name: str
    at_least: float | None = None
    at_most: float | None = None
    max_drop: float | None = Field(default=None, ge=0)
    max_relative_drop: float | None = Field(default=None, ge=0)
    higher_is_better: bool = True

    @model_validator(mode="after")
    def _bounded(self) -> MetricBound:
        bounds = (self.at_least, self.at_most, self.max_drop, self.max_relative_drop)
        if all(bound is None for bound in bounds):
            raise ValueError(
                "must have a bound, or it judges nothing: max_drop, max_relative_drop, at_least or "
                "at_most"
            )
        return self


class EvaluationSet(_Section):
    """Labelled items, which no recipe has seen.

    Attributes:
        name: of the set, in results.
        kind: what the items are and how answers are scored (docs/quality.md).
        source: ``package://<module>/<path>``, or a path beside the declaration.
        format: by default from the file's ending.
        header: whether the first row of a csv or tsv names the columns.
        columns: what is read of each row: names, or numbers from 0 where there is no header.
        where: only rows with these values, by column.
        limit: items used, drawn with ``seed``; 0 is all.
        seed: of the drawing and of the bootstrap.
        train: of ``classification``: further items, on which the head is fitted.
        metrics: what is measured, and the bounds.
        agreement: least mean agreement with the reference's answers, whatever the labels say. Not
            asked of a candidate that names another ``model``.
        confidence: of the intervals.
        resamples: of the bootstrap.
        function: of ``user``: ``file.py:function``, taking (items, answers).
        ask: where it differs from the declaration's.
        licence: of the items, for people.
    """

    name: str = Field(min_length=1)
    kind: Kind
    source: str = Field(min_length=1)
    format: Literal["csv", "tsv", "jsonl", "lines"] | None = None
    header: bool = True
    columns: dict[str, str | int] = Field(default_factory=dict)
    where: dict[str, str] = Field(default_factory=dict)
    limit: int = Field(default=0, ge=0)
    seed: int = 0
    train: int = Field(default=0, ge=0)
    metrics: tuple[MetricBound, ...] = Field(min_length=1)
    agreement: float | None = Field(default=None, ge=0, le=1)
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=2000, ge=100, le=100_000)
    function: str = ""
    ask: Ask | None = None
    licence: str = ""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> EvaluationSet:
        known = METRICS.get(self.kind)
        for metric in self.metrics:
            if known is not None and metric.name not in known:
                raise ValueError(
                    f"metrics: a {self.kind} set has {', '.join(known)}, was {metric.name!r}"
                )
        if self.kind == "user" and not self.function:
            raise ValueError("function: a user set must name one, such as metric.py:score")
        if self.kind == "classification" and not self.train:
            raise ValueError("train: a classification set must say on how many items its head fits")
        return self


class Recipe(_Section):
    """One way to prepare the model: variables over those of ``function.yaml``.

    Attributes:
        name: lower-case letters, digits and dashes.
        env: the variables. An empty value takes one away.
        model: short for ``STOKER_MODEL`` in ``env``.
    """

    name: str = "reference"
    env: dict[str, str] = Field(default_factory=dict)
    model: str = ""

    @field_validator("name")
    @classmethod
    def _fits_in_a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(
                f"must be up to 30 lower-case letters, digits and dashes, was {value!r}"
            )
        return value

    @field_validator("env", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: str(v) if isinstance(v, int | float) else v for k, v in value.items()}

    @property
    def variables(self) -> dict[str, str]:
        """All that it sets."""
        return self.env | ({"STOKER_MODEL": self.model} if self.model else {})


class TextSource(_Section):
    """Texts that a recipe was made with, which no set may hold.

    Attributes:
        source, format, header, where: as of a set.
        columns: those with texts; empty is all, or the lines.
    """

    source: str = Field(min_length=1)
    format: Literal["csv", "tsv", "jsonl", "lines"] | None = None
    header: bool = True
    columns: tuple[str | int, ...] = ()
    where: dict[str, str] = Field(default_factory=dict)


class Limits(_Section):
    """What a candidate may cost, as a share of the reference's cost; None: not judged.

    Attributes:
        size: bytes of the prepared weights.
        memory: of one worker.
        latency: the handler's median time.
    """

    size: float | None = Field(default=None, gt=0)
    memory: float | None = Field(default=None, gt=0)
    latency: float | None = Field(default=None, gt=0)


class Declaration(_Section):
    """A whole ``quality.yaml``.

    Attributes:
        reference: what the candidates are compared with: the full-precision model.
        candidates: the recipes, and other models, to choose from.
        sets: what they are judged by.
        calibration, training: what they were made with; evaluation items among it are refused.
        goal: which of those that pass is taken: ``smallest`` by bytes of the weights, ``fastest``
            by the handler's time, ``cheapest`` by their product.
        limits: what one may cost, whatever the goal.
        ask: how the function is asked.
        latency_items: numbers of texts in a request at which the handler's time is taken.
        rollout: whether the winner is deployed.
        canary: how; None: switched at once, when it is ready.
    """

    reference: Recipe = Recipe()
    candidates: tuple[Recipe, ...] = Field(min_length=1)
    sets: tuple[EvaluationSet, ...] = Field(min_length=1)
    calibration: tuple[TextSource, ...] = ()
    training: tuple[TextSource, ...] = ()
    goal: Goal = "cheapest"
    limits: Limits = Limits()
    ask: Ask | None = None
    latency_items: tuple[int, ...] = Field(default=(1, 16), min_length=1)
    rollout: bool = True
    canary: CanarySpec | None = CanarySpec()

    @model_validator(mode="after")
    def _names_once(self) -> Declaration:
        for field, names in (
            ("candidates", [self.reference.name, *(one.name for one in self.candidates)]),
            ("sets", [one.name for one in self.sets]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{field}: the name {twice[0]!r} is there twice")
        return self

    def asking(self, one: EvaluationSet) -> Ask:
        """How a set's items are sent."""
        return one.ask or self.ask or ASKS.get(one.kind, Ask())
