"""Runs scripts, each in a child of its own that has imported mlrun already.

Importing mlrun takes as long as what a script does; a fork of a process that has done it is as fresh to
the script, which finds no client, no project and no connection. One line in, ``folder<TAB>script``; one
line out, ``script<TAB>exit status``, when it has ended. What it printed is in ``folder/output.txt``.
"""

from __future__ import annotations

import os
import runpy
import sys
import traceback
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import nuclio  # noqa: E402, F401
import pandas  # noqa: E402, F401
import requests  # noqa: E402, F401


def run(folder: Path, script: Path) -> int:
    """The script in a child process; its exit status, or 128 and the signal that ended it."""
    pid = os.fork()
    if not pid:
        os._exit(child(folder, script))
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) % 256


def child(folder: Path, script: Path) -> int:
    os.chdir(folder)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [str(script)]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as exc:
        return int(exc.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def main() -> None:
    for line in sys.stdin:
        folder, script = line.rstrip("\n").split("\t")
        status = run(Path(folder), Path(script))
        print(f"{script}\t{status}", flush=True)


if __name__ == "__main__":
    main()
