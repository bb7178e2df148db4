"""Quantizes a function's model anew, proves it, and redeploys what passes. An MLRun job."""

from pathlib import Path

import mlrun
import pandas as pd

import stoker
from stoker.quality.plots import front
from stoker.quality.report import render


def quantize(
    context: mlrun.MLClientCtx,
    function: str = "text-embedder",
    rollout: bool = True,
    folder: str = "",
):
    """Logs the verdict, the report, the table of recipes, and the model that was chosen.

    Args:
        context: of the run.
        function: whose folder has the ``quality.yaml``.
        rollout: whether the winner is deployed, as a canary; otherwise it is only measured.
        folder: of the function; by default ``functions/<function>`` of the project.
    """
    project = context.get_project_object()
    place = Path(folder or Path(project.spec.context or ".") / "functions" / function)
    run = stoker.quantize(
        place, function=f"{project.name}-{function}", rollout=rollout, progress=context.logger.info
    )
    log(context, function, run)
    if run.verdict == "refused":
        raise ValueError(run.words)


def log(context, function, run):
    """Keeps the run's evidence; the model is logged where one was chosen."""
    everyone = [run.reference, *run.candidates]
    context.log_result("verdict", run.verdict)
    context.log_result("winner", run.winner or "")
    context.log_result("words", run.words)
    context.log_artifact("report", body=render(run), format="html")
    context.log_artifact("run", body=run.model_dump_json(indent=1), format="json")
    if picture := front(run):
        context.log_artifact("front", body=picture, format="svg")
    context.log_dataset("recipes", df=table(everyone), format="csv")
    chosen = next((one for one in everyone if one.name == run.winner), None)
    if chosen is None:
        return
    metrics = {f"{m.metric}_{m.set}": m.candidate.value for m in chosen.metrics}
    for name, value in metrics.items():
        context.log_result(name, round(value, 5))
    if chosen.manifest and chosen.checkpoint:
        log_model(context, function, run, chosen, metrics)


def log_model(context, function, run, chosen, metrics):
    """The prepared checkpoint as it lies in the platform's home: it is not copied."""
    made, source = chosen.manifest, run.reference.manifest or {}
    context.log_model(
        function,
        target_path=chosen.checkpoint,
        model_file="manifest.json",
        upload=False,
        framework=made["backend"],
        algorithm=made.get("method", ""),
        metrics=metrics,
        parameters={
            "recipe": chosen.env,
            "key": made["key"],
            "source_digest": made["source_digest"],
            "libraries": made.get("libraries", {}),
            "bytes": {"before": made["bytes_before"], "after": made["bytes_after"]},
            "sets": {one.name: one.digest for one in run.sets},
            "run": run.key,
        },
        labels={
            "parent": made["model"].rpartition("/")[2],
            "parent-key": source.get("key", ""),
            "verdict": run.verdict,
            "goal": run.goal,
        },
    )


def table(everyone):
    """A row a recipe."""
    return pd.DataFrame([row(one) for one in everyone])


def row(one):
    found = {
        "recipe": one.name,
        "passed": one.passed,
        "refused_for": ", ".join(check.code for check in one.checks if not check.passed),
        "error": one.error,
    }
    for m in one.metrics:
        name = f"{m.metric} {m.set}"
        found |= {name: m.candidate.value, f"{name} difference": m.difference.value}
        found |= {f"{name} low": m.difference.low, f"{name} high": m.difference.high}
    if one.measured:
        found |= {"weight_bytes": one.measured.weight_bytes, "ready_s": one.measured.ready_s}
        found |= {f"ms_{size}": ms for size, ms in one.measured.latency_ms.items()}
    return found
