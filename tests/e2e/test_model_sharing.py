"""The prepared int8 encoder in real forked workers: one copy of its weights, one thread each."""

import json
import os
import subprocess
import sys

import pytest

from prepared_encoder import SETTINGS, prepare

pytestmark = [pytest.mark.e2e, pytest.mark.models]

FORKED = """
import json, os, sys
from pathlib import Path
import stoker.models
import numpy, onnxruntime, tokenizers
import stoker.models.load, stoker.models.onnx_session

def share(folder):
    '''Proportional bytes of the mapped weight file, and private bytes of the whole process.'''
    mapped = private = 0
    ours = False
    for line in open('/proc/self/smaps'):
        words = line.split()
        if not words[0].endswith(':'):
            ours = line.rstrip().endswith('model.onnx.data')
        elif words[0] == 'Pss:' and ours:
            mapped += int(words[1]) * 1024
        elif words[0].startswith('Private_'):
            private += int(words[1]) * 1024
    return mapped, private

count = int(sys.argv[1])
threads = len(os.listdir('/proc/self/task'))
children = []
for index in range(count):
    up, down = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        before = share(Path('/'))[1]
        model = stoker.models.load.load_from(os.environ)
        vectors = model.encode(['A short text.', 'Another, which is a little longer than it.'])
        os.write(up[1], b'x')
        os.read(down[0], 1)
        mapped, private = share(model.folder)
        facts = {'mapped': mapped, 'private': private - before, 'norm': float((vectors ** 2).sum()),
                 'threads': len(os.listdir('/proc/self/task'))}
        os.write(up[1], json.dumps(facts).encode())
        os.read(down[0], 1)
        os._exit(0)
    children.append((pid, up[0], down[1]))
for _, up, _ in children:
    assert os.read(up, 1) == b'x'
facts = []
for _, up, down in children:
    os.write(down, b'x')
    facts.append(json.loads(os.read(up, 4096)))
for pid, _, down in children:
    os.write(down, b'x')
    os.waitpid(pid, 0)
print(json.dumps({'parent_threads': threads, 'workers': facts}))
"""


@pytest.fixture(scope="module")
def home(prepared):
    assert "39 modules replaced, 0 skipped" in prepared.said
    return prepared.home


def forked(home, count):
    result = subprocess.run(
        [sys.executable, "-c", FORKED, str(count)],
        env=os.environ | SETTINGS | {"STOKER_HOME": str(home)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(result.stdout)


def test_four_workers_hold_one_copy_of_the_weights(home):
    one, four = forked(home, 1), forked(home, 4)
    alone = one["workers"][0]["mapped"]
    together = sum(worker["mapped"] for worker in four["workers"])
    assert alone > 10e6
    assert together <= 1.25 * alone
    # What each takes for itself is tokenizer and activations: a packed copy would be 10 MB more.
    assert max(worker["private"] for worker in four["workers"]) < 20e6


def test_importing_starts_no_thread_and_one_thread_is_enough(home):
    seen = forked(home, 2)
    assert seen["parent_threads"] == 1
    for worker in seen["workers"]:
        assert worker["threads"] == 1
        assert worker["norm"] == pytest.approx(2, abs=1e-3)


def test_a_second_preparation_finds_the_first(home):
    result = prepare(home)
    assert result.returncode == 0
    assert "was ready" in result.stdout


def test_a_preparation_that_cannot_be_ends_with_the_reason(home):
    result = prepare(home, STOKER_QUANTIZATION="int7")
    assert result.returncode == 1
    assert "did you mean 'int8'?" in result.stdout
    result = prepare(home, STOKER_MODEL="/nowhere")
    assert result.returncode == 1
    assert "there is no folder '/nowhere'" in result.stdout
