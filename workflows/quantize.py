"""The project's workflow of models: quantizes one anew, proves it, redeploys what passes.

``project.run("quantize")``, or ``project.run("quantize", arguments={"rollout": False})``.
"""

import mlrun


def quantize(function="text-embedder", rollout=True):
    """Runs the job whose outputs are the evidence."""
    project = mlrun.get_current_project()
    project.run_function(
        "model-quantize",
        handler="quantize",
        params={"function": function, "rollout": rollout},
        outputs=["verdict", "winner", "report"],
    )
