"""The character model: a killed run continues, bits per character are right, and wrong input gives one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from examples.char_lm import train
from examples.char_lm.text import UNKNOWN, bigram_bits, documentation, read_text, unigram_bits, windows_of
from jax_lstm import linen
from tests import ROOT
from tests.support.arrays import drawn_like
from tests.support.example_commands import refused_in_one_line

pytestmark = pytest.mark.once
TINY = ["--hidden", "8", "--embedding", "4", "--batch", "3", "--length", "10", "--sample", "20"]
MODEL = linen.SequenceModel(12, 4, 8, 12)
TOKENS = np.random.default_rng(0).integers(0, 12, (3, 41)).astype(np.int32)
PARAMS = drawn_like(jax.eval_shape(MODEL.init, jax.random.key(0), TOKENS)["params"])


def command_line(*options):
    return [sys.executable, "-m", "examples.char_lm.train", *TINY, *map(str, options)]


@pytest.mark.slow
def test_a_killed_run_continues_to_the_same_files(tmp_path):
    (tmp_path / "text").write_text(documentation()[:5000])
    options = ["--text", tmp_path / "text", "--steps", "60", "--every", "2", "--out"]
    subprocess.run(command_line(*options, tmp_path / "whole"), cwd=ROOT, check=True, capture_output=True)
    metrics = tmp_path / "killed" / "metrics.csv"
    with subprocess.Popen(
        command_line(*options, metrics.parent), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 6:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert 6 <= len(metrics.read_text().splitlines()) < 31
    assert not (metrics.parent / "results.json").exists()
    subprocess.run(command_line(*options, metrics.parent), cwd=ROOT, check=True, capture_output=True)
    for name in ("metrics.csv", "results.json", "curve.png"):
        assert (metrics.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(metrics.read_text().splitlines()) == 31


@pytest.mark.isa
def test_it_learns_a_text_and_reports_it(command, tmp_path):
    text = tmp_path / "text"
    text.write_text("abcd abdc " * 200)
    options = ("--text", text, "--steps", 150, "--learning-rate", 0.03, "--out", tmp_path / "run")
    code, shown, _ = command(train.main, *TINY, *options)
    assert not code
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    bits = results["held_out_bits_per_character"]
    assert bits["LSTM"] < 0.5 * bits["bigram, add-one"] < bits["unigram, add-one"]
    assert results["sample"] in "abcd abdc " * 4
    assert len(results["sample"]) == 20
    assert f"{bits['LSTM']:.3f}" in shown
    assert results["sample"] in shown


def test_no_paragraph_of_the_documentation_occurs_twice():
    paragraphs = [" ".join(p.split()) for p in documentation().split("\n\n")]
    assert len(paragraphs) > 1500
    assert len(paragraphs) == len(set(paragraphs))


def test_the_alphabet_has_the_characters_of_the_training_part(tmp_path):
    (tmp_path / "text").write_text("ab" * 45 + "abzzzzbéab")
    text = read_text(tmp_path / "text")
    assert text.alphabet == "\N{REPLACEMENT CHARACTER}ab"
    assert text.decode(text.train) == "ab" * 45
    assert (text.held_out == UNKNOWN).sum() == 5


def test_windows_read_each_stream_in_order_and_leave_out_only_the_tail():
    tokens = np.arange(107)
    windows = windows_of(tokens, 3, 8, "text")
    assert windows.shape == (4, 3, 9)
    assert (windows[1:, :, 0] == windows[:-1, :, -1]).all()
    assert (np.concatenate(windows[..., 1:], axis=1) == tokens[: 3 * 35].reshape(3, 35)[:, 1:33]).all()


def test_baselines_agree_with_a_calculation_by_hand():
    train_part = np.array([1, 2, 1, 2, 1, 3])
    windows = np.array([[[1, 2, 3]]])
    assert unigram_bits(train_part, 4, windows) == pytest.approx(-np.log2(3 / 10 * 2 / 10) / 2, rel=1e-12)
    assert bigram_bits(train_part, 4, windows) == pytest.approx(-np.log2(3 / 7 * 1 / 6) / 2, rel=1e-12)


def test_bits_pass_the_state_from_window_to_window():
    logits, _ = MODEL.apply({"params": PARAMS}, TOKENS[:, :-1])
    whole = optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS[:, 1:]).mean() / np.log(2)
    windows = np.stack([TOKENS[:, n : n + 11] for n in range(0, 40, 10)])
    got = train.bits(MODEL, PARAMS, windows, train.zeros(3, 8))
    assert float(got) == pytest.approx(float(whole), rel=1e-6)  # float32 sums in two orders


def test_training_passes_the_state_on_and_resets_it_at_the_start_of_the_streams():
    optimizer = optax.sgd(0.1)
    update = train.make_update(MODEL, optimizer)

    def after(first, lstm):
        params = jax.tree.map(jnp.copy, PARAMS)
        return update({"params": params, "optimizer": optimizer.init(params), "lstm": lstm}, TOKENS, first)

    def nonzero():
        return jax.tree.map(lambda a: a + 0.5, train.zeros(3, 8))

    fresh, carried, reset = after(False, train.zeros(3, 8)), after(False, nonzero()), after(True, nonzero())
    assert jax.tree.all(jax.tree.map(np.array_equal, fresh, reset))
    assert not np.allclose(fresh[1]["train"], carried[1]["train"])
    _, last = MODEL.apply({"params": PARAMS}, TOKENS[:, :-1])
    np.testing.assert_allclose(fresh[0]["lstm"].h, last.h, rtol=1e-5, atol=1e-6)  # float32


def test_continuing_step_by_step_gives_the_logits_of_the_whole_text():
    key, prompt = jax.random.key(3), TOKENS[0, :7]
    drawn = np.asarray(train.continue_text(MODEL, PARAMS, prompt, key, 15))
    assert UNKNOWN not in drawn
    logits, _ = MODEL.apply({"params": PARAMS}, np.concatenate([prompt, drawn[:-1]]))
    expected = jax.vmap(jax.random.categorical)(jax.random.split(key, 15), logits[6:].at[:, UNKNOWN].set(-np.inf))
    assert (drawn == expected).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--text", "{}/none"], "none: No such file or directory"),
        (["--text", "{}"], "Is a directory"),
        (["--text", "{}/latin"], "invalid UTF-8 at byte 5"),
        (["--text", "{}/short"], "is too short for --batch 3 streams of --length 10, which take 33"),
        (["--text", "{}/empty"], "is too short"),
        (["--steps", "0"], "--steps"),
        (["--length", "0"], "--length"),
        (["--batch", "-3"], "--batch"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--optimizer", "adam"], "--optimizer"),
    ],
)
def test_wrong_input_gives_one_line_and_leaves_no_folder(command, tmp_path, options, says):
    (tmp_path / "latin").write_bytes(b"abcde\xe4" * 100)
    (tmp_path / "short").write_text("abc" * 100)
    (tmp_path / "empty").write_text("")
    given = [option.format(tmp_path) for option in options]
    refused_in_one_line(command(train.main, *TINY, *given, "--out", tmp_path / "run"), says)
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_size_is_refused(command, tmp_path):
    (tmp_path / "text").write_text("abcd abdc " * 100)
    options = ("--text", tmp_path / "text", "--steps", 1, "--out", tmp_path / "run")
    assert not command(train.main, *TINY, *options)[0]
    refused_in_one_line(command(train.main, *TINY, *options, "--hidden", 9), "hidden 8 there, 9 here")


@pytest.mark.slow
def test_with_the_default_settings_it_is_clearly_better_than_both_baselines(tmp_path):
    run = [sys.executable, "-m", "examples.char_lm.train", "--out", tmp_path]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True)
    bits = json.loads((tmp_path / "results.json").read_text())["held_out_bits_per_character"]
    assert bits["LSTM"] < bits["bigram, add-one"] - 0.5 < bits["unigram, add-one"] - 1
