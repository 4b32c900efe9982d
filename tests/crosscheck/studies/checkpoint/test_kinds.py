"""All kinds of files: the weights have the bits of those that the framework itself loads, and the outputs agree."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jax_lstm
from crosscheck.studies.checkpoint import BadFile, FoundLSTM, Skipped, find_networks, read_checkpoint
from tests import ROOT
from tests.support.checkpoint_kinds import FOLDED, KINDS, REFUSED, Kind

# numpy deprecates the way in which Keras's variables become numpy arrays.
KERAS = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")
DOCUMENT = ROOT / "docs" / "checkpoints.md"


# A few roundings over 7 steps. A wrong weight differs by orders of magnitude more.
ROUNDING = {"float64": {"rtol": 1e-12, "atol": 1e-14}, "float32": {"rtol": 1e-5, "atol": 1e-6}}


@KERAS
@pytest.mark.parametrize("kind", [k for k in KINDS if k.outcome != REFUSED], ids=lambda kind: kind.row)
def test_a_file_gives_the_weights_and_outputs_of_its_own_framework(kind: Kind, tmp_path):
    made = kind.make(tmp_path)
    entries = {
        entry.prefix: entry for entry in find_networks(read_checkpoint(made.path)) if entry.kind != "optimizer state"
    }
    assert entries.keys() == made.networks.keys()
    for prefix, own in made.networks.items():
        lstm = entries[prefix]
        assert isinstance(lstm, FoundLSTM), lstm
        assert bool(lstm.notes) == (kind.outcome == FOLDED)
        assert lstm.params.keys() == own.params.keys()
        for name, array in lstm.params.items():
            np.testing.assert_array_equal(array, own.params[name], strict=True)
        dtype = next(iter(lstm.params.values())).dtype
        x = np.random.default_rng(0).normal(size=(2, 7, lstm.network.input_size)).astype(dtype)
        ours, _ = jax.jit(jax_lstm.lstm)(lstm.stack_params, x)
        np.testing.assert_allclose(ours, own.run(x), **ROUNDING[str(dtype)])


@KERAS
@pytest.mark.parametrize("kind", [k for k in KINDS if k.outcome == REFUSED], ids=lambda kind: kind.row)
def test_what_is_refused_says_why(kind: Kind, tmp_path):
    made = kind.make(tmp_path)
    assert made.refused in reason(made.path)


def reason(path: Path) -> str:
    try:
        entries = find_networks(read_checkpoint(path))
    except BadFile as error:
        return str(error)
    return "; ".join(entry.reason for entry in entries if isinstance(entry, Skipped))


def test_the_document_has_a_row_for_each_kind():
    rows = re.findall(r"^\| (.+?) \| (read|folded|refused)\b", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(kind.row, kind.outcome) for kind in KINDS]
