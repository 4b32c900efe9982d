"""The character model: killed and restarted it ends the same, its bits are honest, and wrong input is one line."""

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
from examples.char_lm.text import UNKNOWN, bigram_bits, cut, documentation, read_text, unigram_bits
from examples.run import start
from jax_lstm import linen
from tests import ROOT

pytestmark = pytest.mark.once
TINY = ["--hidden", "8", "--embedding", "4", "--batch", "3", "--length", "10", "--sample", "20"]
MODEL = linen.SequenceModel(12, 4, 8, 12)
TOKENS = np.random.default_rng(0).integers(0, 12, (3, 41)).astype(np.int32)
PARAMS = jax.jit(MODEL.init)(jax.random.key(0), TOKENS)["params"]


def command(*options):
    return [sys.executable, "-m", "examples.char_lm.train", *TINY, *map(str, options)]


@pytest.mark.slow
def test_killed_and_restarted_it_ends_with_the_same_files(tmp_path):
    (tmp_path / "text").write_text(documentation()[:5000])
    options = ["--text", tmp_path / "text", "--steps", "60", "--every", "2", "--out"]
    subprocess.run(command(*options, tmp_path / "whole"), cwd=ROOT, check=True, capture_output=True)
    metrics = tmp_path / "killed" / "metrics.csv"
    with subprocess.Popen(
        command(*options, metrics.parent), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while not metrics.exists() or len(metrics.read_text().splitlines()) < 6:
            assert process.poll() is None
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert 6 <= len(metrics.read_text().splitlines()) < 31
    assert not (metrics.parent / "results.json").exists()
    subprocess.run(command(*options, metrics.parent), cwd=ROOT, check=True, capture_output=True)
    for name in ("metrics.csv", "results.json", "curve.png"):
        assert (metrics.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert len(metrics.read_text().splitlines()) == 31


def call(monkeypatch, capsys, *options):
    """Exit code, stdout and stderr of the script, run in this process."""
    monkeypatch.setattr(sys, "argv", ["train", *TINY, *map(str, options)])
    with pytest.raises(SystemExit) as left:
        start(train.main)
    return left.value.code, *capsys.readouterr()


@pytest.mark.isa
def test_it_learns_a_text_and_says_so(tmp_path, monkeypatch, capsys):
    text = tmp_path / "text"
    text.write_text("abcd abdc " * 200)
    options = ("--text", text, "--steps", 150, "--learning-rate", 0.03, "--out", tmp_path / "run")
    code, shown, _ = call(monkeypatch, capsys, *options)
    assert not code
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    bits = results["held_out_bits_per_character"]
    assert bits["LSTM"] < 0.5 * bits["bigram, add-one"] < bits["unigram, add-one"]
    assert results["sample"] in "abcd abdc " * 4
    assert len(results["sample"]) == 20
    assert f"{bits['LSTM']:.3f}" in shown
    assert results["sample"] in shown


def test_the_documentation_holds_no_paragraph_twice():
    paragraphs = [" ".join(p.split()) for p in documentation().split("\n\n")]
    assert len(paragraphs) > 1500
    assert len(paragraphs) == len(set(paragraphs))


def test_the_alphabet_is_that_of_the_training_part(tmp_path):
    (tmp_path / "text").write_text("ab" * 45 + "abzzzzbéab")
    text = read_text(tmp_path / "text")
    assert text.alphabet == "\N{REPLACEMENT CHARACTER}ab"
    assert text.decode(text.train) == "ab" * 45
    assert (text.held_out == UNKNOWN).sum() == 5


def test_windows_read_each_stream_in_order_and_lose_only_the_tail():
    tokens = np.arange(107)
    windows = cut(tokens, 3, 8, "text")
    assert windows.shape == (4, 3, 9)
    assert (windows[1:, :, 0] == windows[:-1, :, -1]).all()
    assert (np.concatenate(windows[..., 1:], axis=1) == tokens[: 3 * 35].reshape(3, 35)[:, 1:33]).all()


def test_baselines_are_those_by_hand():
    train_part = np.array([1, 2, 1, 2, 1, 3])
    windows = np.array([[[1, 2, 3]]])
    assert unigram_bits(train_part, 4, windows) == pytest.approx(-np.log2(3 / 10 * 2 / 10) / 2, rel=1e-12)
    assert bigram_bits(train_part, 4, windows) == pytest.approx(-np.log2(3 / 7 * 1 / 6) / 2, rel=1e-12)


def test_bits_carry_the_state_from_window_to_window():
    logits, _ = MODEL.apply({"params": PARAMS}, TOKENS[:, :-1])
    whole = optax.softmax_cross_entropy_with_integer_labels(logits, TOKENS[:, 1:]).mean() / np.log(2)
    windows = np.stack([TOKENS[:, n : n + 11] for n in range(0, 40, 10)])
    got = train.bits(MODEL, PARAMS, windows, train.zeros(3, 8))
    assert float(got) == pytest.approx(float(whole), rel=1e-6)  # float32, and two orders of summation


def test_training_carries_the_state_and_drops_it_at_the_streams_start():
    optimizer = optax.sgd(0.1)
    update = train.make_update(MODEL, optimizer)

    def after(first, lstm):
        params = jax.tree.map(jnp.copy, PARAMS)
        return update({"params": params, "optimizer": optimizer.init(params), "lstm": lstm}, TOKENS, first)

    def used():
        return jax.tree.map(lambda a: a + 0.5, train.zeros(3, 8))

    fresh, carried, dropped = after(False, train.zeros(3, 8)), after(False, used()), after(True, used())
    assert jax.tree.all(jax.tree.map(np.array_equal, fresh, dropped))
    assert not np.allclose(fresh[1]["train"], carried[1]["train"])
    _, last = MODEL.apply({"params": PARAMS}, TOKENS[:, :-1])
    np.testing.assert_allclose(fresh[0]["lstm"].h, last.h, rtol=1e-5, atol=1e-6)  # float32


def test_writing_step_by_step_is_writing_with_all_before_it():
    key, prompt = jax.random.key(3), TOKENS[0, :7]
    drawn = np.asarray(train.write_on(MODEL, PARAMS, prompt, key, 15))
    assert UNKNOWN not in drawn
    logits, _ = MODEL.apply({"params": PARAMS}, np.concatenate([prompt, drawn[:-1]]))
    expected = jax.vmap(jax.random.categorical)(jax.random.split(key, 15), logits[6:].at[:, UNKNOWN].set(-np.inf))
    assert (drawn == expected).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--text", "{}/none"], "none: No such file or directory"),
        (["--text", "{}"], "Is a directory"),
        (["--text", "{}/latin"], "no UTF-8 at byte 5"),
        (["--text", "{}/short"], "is too short for --batch 3 streams of --length 10, which take 33"),
        (["--text", "{}/empty"], "is too short"),
        (["--steps", "0"], "--steps"),
        (["--length", "0"], "--length"),
        (["--batch", "-3"], "--batch"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--optimizer", "adam"], "--optimizer"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_folder(tmp_path, monkeypatch, capsys, options, says):
    (tmp_path / "latin").write_bytes(b"abcde\xe4" * 100)
    (tmp_path / "short").write_text("abc" * 100)
    (tmp_path / "empty").write_text("")
    given = [option.format(tmp_path) for option in options]
    code, _, errors = call(monkeypatch, capsys, *given, "--out", tmp_path / "run")
    assert code == 2
    assert says in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_size_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "text").write_text("abcd abdc " * 100)
    options = ("--text", tmp_path / "text", "--steps", 1, "--out", tmp_path / "run")
    assert not call(monkeypatch, capsys, *options)[0]
    code, _, errors = call(monkeypatch, capsys, *options, "--hidden", 9)
    assert code == 2
    assert "hidden 8 there, 9 here" in errors


@pytest.mark.slow
def test_with_the_default_settings_it_beats_both_baselines_clearly(tmp_path):
    run = [sys.executable, "-m", "examples.char_lm.train", "--out", tmp_path]
    subprocess.run(run, cwd=ROOT, check=True, capture_output=True)
    bits = json.loads((tmp_path / "results.json").read_text())["held_out_bits_per_character"]
    assert bits["LSTM"] < bits["bigram, add-one"] - 0.5 < bits["unigram, add-one"] - 1
