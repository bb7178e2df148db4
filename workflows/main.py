"""The project's main workflow: deploys the text classification, and measures what was deployed.

    text-preprocess ──▶ text-embedder ──▶ text-classify ──▶ text-classification ──▶ text-evaluate
                                                            the graph over them     accuracy ≥ 80 %?

``project.run("main")``. What it calls has the same meaning in every engine of MLRun; with the local
one, which is the project's default, it runs in the process that calls it.
"""

import mlrun

FUNCTIONS = ("text-preprocess", "text-embedder", "text-classify", "text-classification")


def main(per_label=10, least_accuracy=0.8):
    """Deploys in order, because each calls the ones before it when it starts; then evaluates."""
    project = mlrun.get_current_project()
    before = None
    for name in FUNCTIONS:
        step = project.deploy_function(name)
        before = step.after(before) if before is not None else step
    project.run_function(
        "text-evaluate",
        handler="evaluate",
        params={"per_label": per_label, "least_accuracy": least_accuracy},
        outputs=["accuracy", "confusion"],
    ).after(before)
