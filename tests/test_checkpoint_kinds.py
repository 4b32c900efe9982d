"""What people's files give: the weights that their own framework loads, bit for bit, and its outputs."""

from __future__ import annotations

from tests.requirements import need

need("torch")

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

import jax_lstm
from crosscheck.checkpoint import BadFile, Found, Skipped, look, read_checkpoint
from tests.checkpoint_kinds import FOLDED, KINDS, REFUSED, Kind

DOCUMENT = Path(__file__).parents[1] / "docs" / "checkpoints.md"


@pytest.mark.parametrize("kind", [k for k in KINDS if k.outcome != REFUSED], ids=lambda kind: kind.row)
def test_a_file_gives_the_weights_and_outputs_of_its_own_framework(kind: Kind, tmp_path):
    made = kind.make(tmp_path)
    read = read_checkpoint(made.path)
    found = {lstm.prefix: lstm for lstm in look(read) if not is_a_moment(lstm)}
    assert found.keys() == made.modules.keys()
    for prefix, module in made.modules.items():
        lstm = found[prefix]
        assert isinstance(lstm, Found), lstm
        assert bool(lstm.notes) == (kind.outcome == FOLDED)
        for name, array in lstm.params.items():
            np.testing.assert_array_equal(array, getattr(module, name).detach().numpy(), strict=True)
        check_outputs(lstm, module)


def is_a_moment(entry: Found | Skipped) -> bool:
    return entry.kind == "optimizer state"


# A handful of roundings over 7 steps; a wrong weight is decades over it.
ROUNDING = {"float64": {"rtol": 1e-12, "atol": 1e-14}, "float32": {"rtol": 1e-5, "atol": 1e-6}}


def check_outputs(lstm: Found, module: torch.nn.Module) -> None:
    dtype = lstm.params[next(iter(lstm.params))].dtype
    x = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(dtype)
    given = torch.from_numpy(x)
    ours, _ = jax.jit(jax_lstm.lstm)(lstm.stack_params, x)
    if isinstance(module, torch.nn.LSTM):
        want = module(given)[0]
    else:
        state = (torch.zeros(2, 5, dtype=given.dtype),) * 2
        steps = []
        for step in given.unbind(1):
            state = module(step, state)
            steps.append(state[0])
        want = torch.stack(steps, 1)
    np.testing.assert_allclose(ours, want.detach(), **ROUNDING[str(dtype)])


@pytest.mark.parametrize("kind", [k for k in KINDS if k.outcome == REFUSED], ids=lambda kind: kind.row)
def test_what_is_refused_says_why(kind: Kind, tmp_path):
    made = kind.make(tmp_path)
    assert made.refused in reason(made.path)


def reason(path: Path) -> str:
    try:
        (entry,) = look(read_checkpoint(path))
    except BadFile as error:
        return str(error)
    assert isinstance(entry, Skipped)
    return entry.reason


def test_the_document_has_a_row_for_each_kind():
    rows = re.findall(r"^\| (.+?) \| (read|folded|refused)\b", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(kind.row, kind.outcome) for kind in KINDS]
