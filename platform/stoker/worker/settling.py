"""What a new process changes of itself before it runs anything for a launch."""

from __future__ import annotations

import os
import random
import sys
import time

from stoker.decide.ranks import ranks_of
from stoker.nouns.launch import WorkerLaunch
from stoker.worker import environ_block
from stoker.worker.handler import enter_code
from stoker.worker.preimport import worker_environment


def settle_in(launch: WorkerLaunch) -> None:
    """What must differ from process to process, and what the launch asks for."""
    os.environ.update(worker_environment(launch))
    if not launch.fresh or ranks_of(launch.env) > 1:
        environ_block.show(os.environ)
    # Read once by the C library, long before.
    time.tzset()
    random.seed()
    seed = int.from_bytes(os.urandom(4), "little")
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None:
        # The CPU's generator only: CUDA's is made in this process, and seeds itself.
        torch.default_generator.manual_seed(seed)
        torch.set_num_threads(launch.threads)
    mlrun = sys.modules.get("mlrun")
    if mlrun is not None:
        # It read the environment when the zygote imported it. Not reload(), which would connect to
        # the API: a worker must be able to start without, and its first use connects.
        mlrun.mlconf.update(mlrun.config.read_env())
    enter_code(launch)
