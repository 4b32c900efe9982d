"""Checkpoint files with random damage: each is either refused in one line or read, fast and in little memory."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.support.checkpoint_kinds import KINDS, REFUSED

READ_DAMAGED = """
import json, sys, time
from pathlib import Path
from crosscheck.studies.checkpoint import BadFile, find_networks, read_checkpoint
from tests.crosscheck.studies.checkpoint.test_damage import damaged
from tests.support.memory import own_peak, peak_of_children

def memory():  # bytes; the most so far, of this process or of one that it started
    return max(own_peak(), peak_of_children())

whole = [Path(name) for name in sys.argv[2:]]
before, slowest, refused = memory(), 0.0, 0
for path in damaged(whole, int(sys.argv[1])):
    start = time.process_time()
    try:
        read = read_checkpoint(path)
        find_networks(read)
    except BadFile as error:
        refused += 1
        assert len(str(error).splitlines()) == 1
    slowest = max(slowest, time.process_time() - start)
print(json.dumps([refused, slowest, memory() - before]))
"""


def damaged(whole: list[Path], count: int) -> Iterator[Path]:
    """Yield each file in turn after overwriting it with some bytes changed, truncated, or joined from two files."""
    rng = random.Random(0)
    contents = [path.read_bytes() for path in whole]
    for trial in range(count):
        path, content = whole[trial % len(whole)], bytearray(contents[trial % len(whole)])
        kind = trial // len(whole) % 4
        if kind == 0:
            content = content[: rng.randrange(len(content))]
        elif kind == 1:
            other = rng.choice(contents)
            start, end = rng.randrange(len(content)), rng.randrange(len(other))
            content = content[:start] + other[end : end + rng.randrange(1, 400)] + content[start + rng.randrange(400) :]
        for _ in range(rng.choice((1, 5, 50)) if content else 0):
            # Most of a file is weights; harmful places are at its ends.
            place = rng.choice((rng.randrange(len(content)), rng.randrange(min(1500, len(content)))))
            content[place] = rng.choice((rng.randrange(256), content[rng.randrange(len(content))]))
        path.write_bytes(content)
        yield path


# numpy deprecates the way in which Keras's variables become numpy arrays.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
@pytest.mark.parametrize(
    ("count", "in_a_process"),
    [
        (1_000, False),
        (10, True),
        pytest.param(10_000, False, marks=pytest.mark.slow),
        pytest.param(200, True, marks=pytest.mark.slow),
    ],
)
def test_damage_is_refused_or_harmless(count, in_a_process, tmp_path):
    chosen = [kind for kind in KINDS if kind.outcome != REFUSED and kind.in_a_process == in_a_process]
    whole = []
    for number, kind in enumerate(chosen):
        (tmp_path / str(number)).mkdir()
        whole.append(str(kind.make(tmp_path / str(number)).path))
    command = [sys.executable, "-c", READ_DAMAGED, str(count), *whole]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    refused, slowest, memory = json.loads(done.stdout)
    assert refused >= count * (0.2 if in_a_process else 0.5)  # HDF5 has no checksums
    assert slowest < 5
    assert memory < 10**9
