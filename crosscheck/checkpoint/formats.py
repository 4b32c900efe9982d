"""The file formats: one reader each, from a path to arrays by name. None of them ever runs what a file says."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from pathlib import Path

import numpy as np
import safetensors
import torch

from crosscheck.checkpoint.errors import BadFile, first_line
from crosscheck.checkpoint.tensors import as_array, flatten
from crosscheck.problem import Arrays

_AGAIN = "Is it whole, and of the format that its ending says? Download or save it again"
_STATE_DICT = (
    "Where its source is trusted, load it with torch and save its weights alone: "
    "torch.save(module.state_dict(), 'weights.pt')"
)


def read_safetensors(path: Path) -> Arrays:
    """Through torch, which has all dtypes that the format has."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            arrays = {name: as_array(path, name, file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except BadFile:
        raise
    except Exception as error:  # whatever a damaged file makes the library raise
        raise BadFile(path, f"safetensors cannot read it ({first_line(error)})", _AGAIN) from error
    return {name: array for name, array in arrays.items() if array is not None}


def read_torch(path: Path) -> Arrays:
    """What torch.load gives with ``weights_only=True``: tensors in plain containers, and nothing that runs code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of old storages; what matters is raised
            # Mapped, so that an optimizer's state takes no memory. Files from before torch 1.6 cannot be.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # whatever a damaged or hostile file makes torch raise
        raise _refusal(path, error) from error
    return flatten(path, content)


def _refusal(path: Path, error: BaseException) -> BadFile:
    if isinstance(error, pickle.UnpicklingError) and error.__context__:
        error = error.__context__  # torch wraps it into advice to switch this safety off
    text = str(error)
    if needed := re.search(r"GLOBAL (\S+)", text):
        wrong = f"reading it means to run {needed[1]}, which could do anything, so it is refused"
        return BadFile(path, wrong, _STATE_DICT)
    if "Unsupported operand" in text and _is_pickle(path):  # one that torch did not write
        return BadFile(path, "it is a plain pickle, which may run any code when read, so it is refused", _STATE_DICT)
    if "TorchScript" in text:
        return BadFile(
            path, "it is a TorchScript archive, a program and not weights alone, so it is refused", _STATE_DICT
        )
    return BadFile(path, f"torch.load cannot read it ({type(error).__name__}: {first_line(error)})", _AGAIN)


def _is_pickle(path: Path) -> bool:
    content = path.read_bytes()
    return content[:1] == pickle.PROTO and content[-1:] == pickle.STOP


def read_npz(path: Path) -> Arrays:
    """NumPy's archive, without object arrays: those are pickles."""
    name = ""
    try:
        with path.open("rb") as file:  # not by its path: numpy leaves a file open that is no archive
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise BadFile(path, "it is no archive of arrays", "Write it with numpy.savez")
            arrays = {}
            for name in archive.files:
                value = archive[name]
                if isinstance(value, np.ndarray):  # bytes: a member that is no array
                    arrays[name] = value.astype(value.dtype.newbyteorder("="), copy=False)
            return arrays
    except BadFile:
        raise
    except Exception as error:  # whatever a damaged or hostile file makes numpy, zipfile and zlib raise
        if "allow_pickle" in str(error):
            what = f"its array {name!r} holds Python objects" if name else "it is a pickle"
            raise BadFile(path, f"{what}, which may run any code when read, so it is refused", _SAVEZ) from error
        where = f"its array {name!r}" if name else "it"
        raise BadFile(path, f"numpy cannot read {where} ({first_line(error)})", _AGAIN) from error


_SAVEZ = "Where its source is trusted, write the arrays of numbers alone with numpy.savez"
