"""Metrics of canaries: what each side of one has done since it began. Gone with the canary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from stoker.api.rollouts import Gateways, evidence
from stoker.decide.canary import TAIL
from stoker.decide.latency import quantile
from stoker.nouns.evidence import Side
from stoker.nouns.record import FunctionRecord

_LABELS = ("function", "revision", "side")


def canary_families(
    functions: Mapping[str, FunctionRecord], gateways: Gateways
) -> Iterator[Metric]:
    """The families; a revision is on the side ``canary`` or on the side ``serving``."""
    share = GaugeMetricFamily(
        "stoker_canary_share", "Share of the requests", labels=("function", "revision")
    )
    requests = GaugeMetricFamily(
        "stoker_canary_requests", "Requests with an outcome", labels=_LABELS
    )
    errors = GaugeMetricFamily("stoker_canary_errors", "Of these, failed", labels=_LABELS)
    p95 = GaugeMetricFamily(
        "stoker_canary_p95_seconds", "95th percentile of the latency", labels=_LABELS
    )
    for record in functions.values():
        if record.canary is None or record.serving is None:
            continue
        tried, serving = str(record.canary.revision.number), str(record.serving.number)
        share.add_metric((record.name, tried), record.canary.share)
        seen = evidence(record.canary, record.name, gateways)
        sides: tuple[tuple[str, str, Side], ...] = (
            (tried, "canary", seen.canary),
            (serving, "serving", seen.stable),
        )
        for revision, name, side in sides:
            labels = (record.name, revision, name)
            requests.add_metric(labels, side.requests)
            errors.add_metric(labels, side.errors)
            value = quantile(side.latency, 1 - TAIL)
            if value is not None:
                p95.add_metric(labels, value)
    yield from (share, requests, errors, p95)
