"""Where this process's MLRun and Nuclio clients look for their server: pointed here, and back.

Both find it by environment variables. mlrun, once imported, has read them into its configuration
and holds a connection, so it is told as well; it is not imported for that.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

MLRUN_URL = "MLRUN_DBPATH"
NUCLIO_URL = "NUCLIO_DASHBOARD_URL"
STOKER_HOME = "STOKER_HOME"
IGNORE_FILE = "MLRUN_IGNORE_ENV_FILE"
_USERS_FILE = "~/.mlrun.env"

Before = dict[str, str | None]
"""The variables that were changed, with what each was."""


def point(url: str, home: Path) -> Before:
    """Points the clients of this process, and the ``stoker`` commands it starts, to a platform.

    Returns:
        What `point_back` needs.
    """
    wanted = {MLRUN_URL: url, NUCLIO_URL: url, STOKER_HOME: str(home)}
    if _file_names_another():
        # mlrun would read the file when it is imported, and follow it rather than the environment.
        wanted[IGNORE_FILE] = "1"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    _tell_mlrun(url)
    return before


def point_back(url: str, before: Before) -> None:
    """Undoes `point`, unless the clients have been pointed elsewhere since."""
    if os.environ.get(MLRUN_URL) != url:
        return
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    mlrun = _imported_mlrun()
    if mlrun is not None and mlrun.mlconf.dbpath == url:
        # Not connected: whoever was there before may be away.
        mlrun.mlconf.dbpath = before.get(MLRUN_URL) or ""


def _tell_mlrun(url: str) -> None:
    mlrun = _imported_mlrun()
    if mlrun is not None:
        mlrun.mlconf.dbpath = url
        # Reads the environment again and connects anew, even to a URL that it knows: another
        # platform may be there now, with other settings.
        mlrun.mlconf.reload(skip_env_file=True)


def _imported_mlrun() -> Any:
    """The module, whole: while it is being imported it has no configuration yet."""
    found = sys.modules.get("mlrun")
    return found if hasattr(found, "mlconf") else None


def _file_names_another() -> bool:
    path = Path(os.environ.get("MLRUN_ENV_FILE") or _USERS_FILE).expanduser()
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    names = (line.strip().removeprefix("export ").partition("=")[0].strip() for line in lines)
    return MLRUN_URL in names
