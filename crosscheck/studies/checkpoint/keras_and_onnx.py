"""Keras files and ONNX models: their networks by torch's names, as jax_lstm.convert reads them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crosscheck.core.errors import first_line
from crosscheck.studies.checkpoint.contents import Checkpoint, Skipped
from crosscheck.studies.checkpoint.errors import SAVE_AGAIN, BadFile, printable
from jax_lstm.convert import OnnxRefusal, onnx_networks

SECONDS = 60  # for the process that reads a Keras file
INSTALL = "Install what reads it: pip install 'jax-lstm[files]'"


def read_onnx(path: Path) -> Checkpoint:
    """Return every LSTM network of an ONNX model, by the name of its first node."""
    try:
        with jax.enable_x64(True):
            networks = onnx_networks(path)
    except ImportError as error:
        raise BadFile(path, "it may be an ONNX model, and onnx is not installed", INSTALL) from error
    except (ValueError, TypeError) as error:
        raise BadFile(path, _without_path(path, error), "Known formats are in docs/checkpoints.md") from error
    return _checkpoint(
        {
            name: (network.reason, True) if isinstance(network, OnnxRefusal) else network.params
            for name, network in networks.items()
        }
    )


def read_keras(path: Path) -> Checkpoint:
    """Return every LSTM layer of a Keras file, by its name. A separate process reads the file, since it may crash."""
    child = [sys.executable, "-P", str(Path(__file__).with_name("keras_child.py")), os.fspath(path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(child, env=environment, capture_output=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise BadFile(path, f"reading it took over {SECONDS} s", SAVE_AGAIN) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = f"ended with {done.returncode}" if done.returncode < 0 or not lines else f"said {lines[-1]!r}"
        raise BadFile(path, f"it is damaged: the process that read it {printable(said)}", SAVE_AGAIN)
    answer = pickle.loads(done.stdout)  # of keras_child.py, and not of the file
    if isinstance(answer, tuple):
        reason, is_missing = answer
        raise BadFile(path, _without_path(path, ValueError(reason)), INSTALL if is_missing else SAVE_AGAIN)
    return _checkpoint(answer)


def _checkpoint(networks: Mapping[str, Mapping[str, Any] | tuple[str, bool]]) -> Checkpoint:
    """Return networks by name, each with its arrays, or with the reason of a refusal and whether it is an LSTM."""
    checkpoint = Checkpoint()
    for name, network in networks.items():
        prefix = name.strip("/")
        if isinstance(network, tuple):
            reason, is_lstm = network
            kind = "nn.LSTM" if is_lstm else "unknown"
            checkpoint.refused.append(Skipped(prefix, kind, printable(reason.rstrip(".")), is_lstm))
        else:
            checkpoint.arrays |= {f"{prefix}.{entry}": np.asarray(array) for entry, array in network.items()}
    return checkpoint


def _without_path(path: Path, error: Exception) -> str:
    """Return what an error says, without the path before it and without its full stop."""
    return first_line(error).rstrip(".").removeprefix(os.fspath(path)).lstrip(": ") or type(error).__name__
