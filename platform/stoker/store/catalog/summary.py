"""What is in a project, in the numbers of MLRun's summaries."""

from __future__ import annotations

import sqlite3

_NOT_FILES = frozenset({"model", "dataset", "document", "llm-prompt"})


def summary(connection: sqlite3.Connection, project: str, since: float) -> dict[str, int]:
    """The counts; "recent" is what started at ``since`` (seconds since 1970) or later."""
    kinds = _keys_by_kind(connection, project)
    states = _runs_by_state(connection, project, since)
    running = connection.execute(
        "SELECT COUNT(*) FROM runs WHERE project = ? AND iteration = 0"
        " AND state IN ('running', 'pending', 'created')",
        (project,),
    ).fetchone()[0]
    return {
        "files_count": sum(n for kind, n in kinds.items() if kind not in _NOT_FILES),
        "models_count": kinds.get("model", 0),
        "datasets_count": kinds.get("dataset", 0),
        "documents_count": kinds.get("document", 0),
        "llm_prompts_count": kinds.get("llm-prompt", 0),
        "runs_completed_recent_count": states.get("completed", 0),
        "runs_failed_recent_count": states.get("error", 0) + states.get("aborted", 0),
        "runs_running_count": running,
    }


def _keys_by_kind(connection: sqlite3.Connection, project: str) -> dict[str, int]:
    # Versions of a key are one thing to their user.
    rows = connection.execute(
        "SELECT kind, COUNT(DISTINCT key) FROM artifacts WHERE project = ? GROUP BY kind",
        (project,),
    )
    return dict(rows.fetchall())


def _runs_by_state(connection: sqlite3.Connection, project: str, since: float) -> dict[str, int]:
    rows = connection.execute(
        "SELECT state, COUNT(*) FROM runs WHERE project = ? AND iteration = 0 AND started >= ?"
        " GROUP BY state",
        (project, since),
    )
    return dict(rows.fetchall())
