"""What no test leaves to the next, whichever folder it lies in."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from stoker.nouns.extras import install

NEEDS = {"mlrun": ("mlrun", "storey", "nuclio"), "models": ("torch", "transformers")}
"""Packages without which what is marked so is skipped: the extra of that name has them."""
CLIENT_ENV = ("MLRUN_DBPATH", "NUCLIO_DASHBOARD_URL", "STOKER_HOME", "MLRUN_IGNORE_ENV_FILE")


def pytest_sessionstart() -> None:
    """Nothing of the user's clients, and no terminal: to a pipe, tables are printed whole.

    The processes of pytest-xdist have 80 columns: readline says so to the environment.
    """
    for name in (*CLIENT_ENV, "COLUMNS", "LINES"):
        os.environ.pop(name, None)
    with contextlib.suppress(ValueError):  # not of the main thread
        signal.signal(signal.SIGTERM, _end_in_order)


SESSION = os.getpid()


def _end_in_order(number: int, _frame: object) -> None:
    """Of a session that is terminated, by ``timeout`` for one, no platform and no folder stays."""
    if os.getpid() == SESSION:
        raise KeyboardInterrupt
    # A test's child: ended as it would have been.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Platforms run where an extra is not installed, and so do the tests of what is left."""
    for mark, packages in NEEDS.items():
        if item.get_closest_marker(mark) is None:
            continue
        for name in packages:
            if name not in sys.modules and importlib.util.find_spec(name) is None:
                pytest.skip(f"needs the package {name}: {install(mark)}")


@pytest.fixture(autouse=True)
def clients_point_where_they_did() -> Iterator[None]:
    """mlrun keeps where its server is in a module: a test that points it somewhere else is undone.

    A unit test once asked a server that an end-to-end test had named an hour before.
    """
    before = {name: os.environ.get(name) for name in CLIENT_ENV}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    mlrun = sys.modules.get("mlrun")
    # Half-imported, it has no configuration yet.
    if mlrun is not None and hasattr(mlrun, "mlconf"):
        config = mlrun.mlconf
        if config.dbpath or config.nuclio_dashboard_url:
            config.reload(skip_env_file=True)
