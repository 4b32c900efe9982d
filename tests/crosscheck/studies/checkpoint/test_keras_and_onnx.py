"""Keras files and ONNX models as checkpoints: the process that reads HDF5 may crash, and packages may be missing."""

from __future__ import annotations

from tests.support.requirements import need

need("torch")

import pickle
import stat
from pathlib import Path

import numpy as np
import pytest

from crosscheck.studies.checkpoint import BadFile, Skipped, find_networks, keras_and_onnx, read_checkpoint
from crosscheck.studies.checkpoint.files import HDF5
from jax_lstm.convert import OnnxLSTM, OnnxRefusal


def as_python(tmp_path: Path, monkeypatch, script: str) -> Path:
    """Return a file that looks like Keras's. The process that reads it runs ``script``."""
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "python").chmod(stat.S_IRWXU)
    monkeypatch.setattr(keras_and_onnx.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "a.h5").write_bytes(HDF5 + bytes(9))
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -SEGV $$", "it is damaged: the process that read it ended with -11"),
        ("exit 3", "it is damaged: the process that read it ended with 3"),
        (
            "echo MemoryError: no room >&2; exit 1",
            "it is damaged: the process that read it said 'MemoryError: no room'",
        ),
        ("sleep 60", "reading it took over 0.1 s"),
    ],
)
def test_a_process_that_ends_is_a_file_that_is_refused(script, words, tmp_path, monkeypatch):
    path = as_python(tmp_path, monkeypatch, script)
    if "sleep" in script:
        monkeypatch.setattr(keras_and_onnx, "SECONDS", 0.1)
    with pytest.raises(BadFile, match=words):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("said", "is_missing", "words"),
    [
        ("{path} needs h5py to be read.", True, "needs h5py to be read. Install what reads it: pip install 'jax-lstm"),
        ("{path}: there is no LSTM.", False, "a.h5: there is no LSTM. Is it whole"),
    ],
)
def test_what_the_process_says_is_said(said, is_missing, words, tmp_path, monkeypatch):
    path = as_python(tmp_path, monkeypatch, f"cat {tmp_path / 'answer'}")
    (tmp_path / "answer").write_bytes(pickle.dumps((said.format(path=path), is_missing)))
    with pytest.raises(BadFile) as raised:
        read_checkpoint(path)
    assert words in str(raised.value)


def test_a_refused_layer_is_an_lstm_that_is_not_checked(tmp_path, monkeypatch):
    path = as_python(tmp_path, monkeypatch, f"cat {tmp_path / 'answer'}")
    answer = {"inner/a": ("a has clip.", True), "g": ("g is a GRU.", False)}
    (tmp_path / "answer").write_bytes(pickle.dumps(answer))
    assert find_networks(read_checkpoint(path)) == [
        Skipped("inner.a", "nn.LSTM", "a has clip", is_lstm=True), Skipped("g", "unknown", "g is a GRU")
    ]  # fmt: skip
    assert find_networks(read_checkpoint(path), "inner") == [Skipped("inner.a", "nn.LSTM", "a has clip", is_lstm=True)]


def test_without_onnx_it_is_said_what_to_install(tmp_path, monkeypatch):
    def missing(path):
        raise ImportError("ONNX models need the package onnx.")

    monkeypatch.setattr(keras_and_onnx, "onnx_networks", missing)
    (tmp_path / "a").write_bytes(b"\x08\x08")
    with pytest.raises(
        BadFile, match=r"onnx is not installed\. Install what reads it: pip install 'jax-lstm\[files\]'"
    ):
        read_checkpoint(tmp_path / "a")


def test_names_of_nodes_may_begin_with_a_slash(tmp_path, monkeypatch):
    lstm = OnnxLSTM({"weight_hh_l0": np.ones((4, 1))}, None, None, True)
    networks = {"/a/LSTM": lstm, "/b/LSTM": OnnxRefusal(("/b/LSTM",), "it has clip.")}
    monkeypatch.setattr(keras_and_onnx, "onnx_networks", lambda path: networks)
    (tmp_path / "a").write_bytes(b"\x08\x08")
    read = read_checkpoint(tmp_path / "a")
    assert (list(read.arrays), [entry.prefix for entry in read.refused]) == (["a.LSTM.weight_hh_l0"], ["b.LSTM"])


def test_what_is_no_onnx_model_is_told(tmp_path):
    need("onnx")
    (tmp_path / "a").write_bytes(b"\x08what is this?")
    with pytest.raises(BadFile, match="cannot be read as an ONNX model"):
        read_checkpoint(tmp_path / "a")
