"""The quality gate as a library: `run_quality`, which ``stoker ci quantize`` and jobs call.

One call prepares each recipe that ``quality.yaml`` declares, evaluates all against the reference
on the labelled sets, refuses what is worse than declared, chooses by the goal, rolls the winner out
and follows its canary to the end. Called again with nothing changed, it does nothing and says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.decide.winner import choose
from stoker.nouns.home import Home
from stoker.nouns.model_name import TRIAL_LABEL
from stoker.quality import accepted, read, sets
from stoker.quality.declaration import Declaration, Recipe
from stoker.quality.kept import Kept
from stoker.quality.key import file_digest, recipe_facts, run_key
from stoker.quality.package import Package, is_mlruns, project_of
from stoker.quality.platform import Platform
from stoker.quality.result import CandidateResult, QualityRun, SetResult
from stoker.quality.roll_out import by_now, roll_out, rolled_back

Progress = Callable[[str], None]


def run_quality(
    folder: Path,
    *,
    control_url: str,
    gateway_url: str,
    home: Path | None,
    function: str | None = None,
    rollout: bool = True,
    out: Path | None = None,
    progress: Progress = lambda _line: None,
    kept: Path | None = None,
    accept_sets: bool = False,
    again: bool = False,
) -> QualityRun:
    """Judges a function's recipes and rolls out the best of them.

    Args:
        folder: of the function, with ``function.yaml`` and ``quality.yaml``.
        control_url: of the running platform.
        gateway_url: of its functions.
        home: the platform's; None where it is on another machine: then what a checkpoint holds
            cannot be looked at, and recipes that quantize are refused.
        function: its name on the platform; by default the one of its file.
        rollout: whether the winner is deployed, where the declaration allows it.
        out: a folder; ``run.json`` is also written there.
        progress: told of each step, a line each.
        kept: where results are kept; by default ``<home>/quality``.
        accept_sets: takes the sets, and the reference's metrics on them, as what later runs are
            held to (``quality.lock``).
        again: evaluates even though nothing has changed.

    Raises:
        BadRequest: the declaration, a set or the function's folder is wrong.
        Conflict: another quality run of this function, or a canary of it, is under way.
        TrialFailed: the reference cannot be built or asked.
        StokerError: the platform refuses, or cannot be reached.
    """
    started = time.time()
    folder = folder.resolve()
    package, declaration = Package.read(folder), read.read(folder)
    loaded = [sets.load(one, folder) for one in declaration.sets]
    target = function or package.name
    shelf = Kept(kept or Home.at(home).quality, target)
    with Platform(control_url, gateway_url) as platform, shelf.alone():
        work = _Work(platform, package, declaration, loaded, target, home, started, progress)
        key = work.key(accept=accept_sets)
        known = None if again or accept_sets else _still_true(shelf.find(key), folder)
        run = known or work.evaluate(key, accept=accept_sets)
        if known is None:
            shelf.publish(run)
        said = work.conclude(run, known=known is not None, rollout=rollout)
        if said.rollout != run.rollout:
            shelf.publish(run.model_copy(update={"rollout": said.rollout}))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.json").write_text(said.model_dump_json(indent=2) + "\n")
    return said


def _still_true(run: QualityRun | None, folder: Path) -> QualityRun | None:
    """The earlier run, unless what is accepted has been changed by hand since."""
    lock = file_digest(folder / accepted.FILE)
    return run if run is not None and lock in ("", run.accepted) else None


@dataclass(slots=True)
class _Work:
    platform: Platform
    package: Package
    declaration: Declaration
    sets: list[sets.LoadedSet]
    target: str
    home: Path | None
    started: float
    tell: Progress

    def key(self, *, accept: bool) -> str:
        """See `stoker.quality.key`."""
        devices = self.platform.devices() if self.package.gpus else []
        recipes = [self.declaration.reference, *self.declaration.candidates]
        lock = accepted.read(self.package.folder)
        digests = {one.declared.name: one.digest for one in self.sets}
        declared, folder = self.declaration, self.package.folder
        sources = [one.source for one in (*declared.calibration, *declared.training)]
        functions = [one.function for one in declared.sets if one.function]
        facts = {
            "declaration": declared.model_dump(mode="json", exclude={"canary", "rollout"}),
            "function": self.package.digest,
            "target": self.target,
            "recipes": {one.name: recipe_facts(self._env(one), folder, devices) for one in recipes},
            "sets": digests,
            "seen": {one: file_digest(sets.find(one, folder)) for one in sources},
            "metrics": {one: file_digest(folder / one.partition(":")[0]) for one in functions},
            "accepted": accept or lock is None or lock.sets == digests,
        }
        return run_key(facts)

    def evaluate(self, key: str, *, accept: bool) -> QualityRun:
        """Tries everything anew."""
        # With scipy, which takes longer than finding that nothing has changed.
        from stoker.quality.evaluate import Evaluation

        self._clear_trials()
        folder = self.package.folder
        before = None if accept else accepted.read(folder)
        project = self._project()
        self.platform.ensure_project(project)
        evaluation = Evaluation(
            self.platform, self.package, self.declaration, self.sets,
            self.target, project, self.home, before, self.tell,
        )  # fmt: skip
        reference, candidates = evaluation.run()
        if before is None:
            accepted.write(folder, _to_accept(self.sets, reference))
        winner = self._winner(candidates)
        return QualityRun(
            key=key,
            function=self.target,
            project=project,
            started_at=self.started,
            seconds=self._seconds(),
            goal=self.declaration.goal,
            declaration=self.declaration.model_dump(mode="json"),
            sets=tuple(map(_as_used, self.sets)),
            reference=reference,
            candidates=tuple(candidates),
            winner=winner,
            verdict="winner" if winner else "refused",
            words=_chosen(winner, candidates, self.declaration.goal),
            accepted=file_digest(folder / accepted.FILE),
        )

    def conclude(self, run: QualityRun, *, known: bool, rollout: bool) -> QualityRun:
        """From the verdict to what serves: nothing to do, nothing to roll out, or the rollout."""
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started_at))
        nothing = f"nothing changed since {since}: " if known else ""
        took: dict[str, Any] = {"repeated": known, "seconds": self._seconds()}
        if run.winner is None:
            return run.model_copy(update=took | {"words": nothing + run.words})
        recipe = next(one for one in self.declaration.candidates if one.name == run.winner)
        serving = self.platform.function(self.target)
        if self.package.serves(serving, recipe.variables):
            words = f"{nothing}{recipe.name} serves" + ("" if known else f": {run.words}")
            return run.model_copy(update=took | {"verdict": "unchanged", "words": words})
        before = by_now(self.platform, self.target, run.rollout) if known else None
        if rolled_back(before):
            words = f"{nothing}{recipe.name} does not serve, {_why(before)}"
            return run.model_copy(update=took | {"words": words, "rollout": before})
        if before is not None and before["state"] == "running":
            words = f"{nothing}{_why(before)}"
            return run.model_copy(update=took | {"words": words, "rollout": before})
        if not rollout or not self.declaration.rollout:
            words = f"{nothing}{run.words}; nothing was rolled out"
            return run.model_copy(update=took | {"words": words})
        found = self._roll_out(recipe, serving)
        words = f"{nothing}{run.words}; {_why(found)}"
        took["seconds"] = self._seconds()
        return run.model_copy(update=took | {"words": words, "rollout": found})

    def _seconds(self) -> float:
        return round(time.time() - self.started, 1)

    def _roll_out(self, recipe: Recipe, serving: dict[str, Any] | None) -> dict[str, Any]:
        # Without one that serves there is nothing to compare a canary with.
        compared = serving is not None and serving["status"].get("servingRevision") is not None
        canary = self.declaration.canary if compared else None
        mlruns = serving is not None and is_mlruns(serving)
        document = self.package.rollout(
            self.target,
            recipe.name,
            recipe.variables,
            self._project(),
            canary,
            over=self.platform.exported(self.target) if mlruns else None,
        )
        return roll_out(self.platform, document, canary, self.tell)

    def _winner(self, candidates: list[CandidateResult]) -> str | None:
        from stoker.quality.evaluate import cost_facts

        passed = {
            one.name: cost_facts(one.measured)
            for one in candidates
            if one.passed and one.measured is not None
        }
        return choose(self.declaration.goal, passed)

    def _env(self, recipe: Recipe) -> dict[str, str]:
        env = self.package.env | recipe.variables
        return {name: value for name, value in env.items() if value != ""}

    def _project(self) -> str:
        serving = self.platform.function(self.target)
        return project_of(serving or self.package.document)

    def _clear_trials(self) -> None:
        """What a run that was killed has left. Nobody else runs: the lock is held."""
        for name, one in self.platform.functions().items():
            if (one["metadata"].get("labels") or {}).get(TRIAL_LABEL) == self.target:
                self.tell(f"deleting {name}, which a run that was cut off has left")
                self.platform.delete(name)


def _as_used(one: sets.LoadedSet) -> SetResult:
    return SetResult(
        name=one.declared.name,
        items=len(one.items),
        digest=one.digest,
        source=one.declared.source,
        licence=one.declared.licence,
    )


def _to_accept(loaded: list[sets.LoadedSet], reference: CandidateResult) -> accepted.Accepted:
    return accepted.Accepted(
        sets={one.declared.name: one.digest for one in loaded},
        reference={
            f"{one.set}/{one.metric}": round(one.reference.value, 6) for one in reference.metrics
        },
    )


def _chosen(winner: str | None, candidates: list[CandidateResult], goal: str) -> str:
    passed = [one.name for one in candidates if one.passed]
    if winner is None:
        return f"none of {len(candidates)} candidates passed"
    return f"{winner} is the {goal} of {len(passed)} that passed, of {len(candidates)} candidates"


def _why(rollout: dict[str, Any] | None) -> str:
    return str((rollout or {}).get("words") or json.dumps(rollout))
