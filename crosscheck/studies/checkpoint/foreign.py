"""Files of Keras's and ONNX models: their networks by torch's names, as jax_lstm.convert reads them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from crosscheck.studies.checkpoint.errors import BadFile, first_line, printable
from crosscheck.studies.checkpoint.flat import Checkpoint, Refusal
from crosscheck.studies.checkpoint.formats import AGAIN
from jax_lstm.convert import OnnxRefusal, onnx_networks

SECONDS = 60  # for the process that reads a file of Keras's


def read_onnx(path: Path) -> Checkpoint:
    """Every LSTM network of an ONNX model, by the name of its first node."""
    try:
        with jax.enable_x64(True):
            networks = onnx_networks(path)
    except ImportError as error:
        raise BadFile(path, "it may be an ONNX model, and onnx is not installed", _INSTALL) from error
    except (ValueError, TypeError) as error:
        raise BadFile(path, _of(path, error), "Conditioning formats are in docs/checkpoints.md") from error
    flat = Checkpoint()
    for name, found in networks.items():
        if isinstance(found, OnnxRefusal):
            flat.refused[name.strip("/")] = Refusal(found.reason)
            continue
        _add(flat, name, {entry: np.asarray(array) for entry, array in found.params.items()})
    return flat


def read_keras(path: Path) -> Checkpoint:
    """Every LSTM layer of a file of Keras's, by its name; read in a process of its own, which may crash."""
    child = [sys.executable, "-P", str(Path(__file__).with_name("keras_child.py")), os.fspath(path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(child, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BadFile(path, f"reading it took over {SECONDS} s", AGAIN) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = f"ended with {done.returncode}" if done.returncode < 0 or not lines else f"said {lines[-1]!r}"
        raise BadFile(path, f"it is damaged: the process that read it {printable(said)}", AGAIN)
    found = pickle.loads(done.stdout)
    if isinstance(found, tuple):
        reason, is_missing = found
        raise BadFile(path, _of(path, reason), _INSTALL if is_missing else AGAIN)
    flat = Checkpoint()
    for name, network in found.items():
        if isinstance(network, tuple):
            flat.refused[name] = Refusal(*network)
        else:
            _add(flat, name, network)
    return flat


_INSTALL = "Install what reads it: pip install 'jax-lstm[files]'"


def _add(flat: Checkpoint, name: str, params: Mapping[str, np.ndarray]) -> None:
    flat.arrays |= {f"{name.strip('/')}.{entry}": array for entry, array in params.items()}


def _of(path: Path, error: object) -> str:
    """What an error says, without the path before it and without its full stop."""
    said = first_line(error if isinstance(error, BaseException) else ValueError(error))
    return said.removeprefix(os.fspath(path)).lstrip(": ") or type(error).__name__
