"""examples/plain_training: the script learns, and its README shows what a run needs."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from examples.plain_training.train import Classifier, main

pytestmark = pytest.mark.once


def test_the_script_learns_to_read_digits(capsys):
    assert main(epochs=10) > 0.85  # 0.91 to 0.94 with six seeds of the weights; chance is 0.1
    assert "of 450 test images" in capsys.readouterr().out


def test_the_classifier_reads_all_rows():
    rows = np.random.default_rng(0).normal(size=(2, 8, 8)).astype("float32")
    model = Classifier()
    variables = model.init(jax.random.key(0), rows)
    logits = model.apply(variables, rows)
    assert logits.shape == (2, 10)
    for t in range(8):
        changed = rows.copy()
        changed[:, t] += 1
        assert not np.allclose(model.apply(variables, changed), logits)
