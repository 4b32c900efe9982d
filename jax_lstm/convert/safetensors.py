"""Parameter trees as safetensors files, by dotted names, as torch writes and reads them. Lossless."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jax.typing import DTypeLike

from jax_lstm._src.files import whole
from jax_lstm.convert.arrays import concrete
from jax_lstm.convert.torch import flatten, from_torch

ENDING = ".safetensors"
DTYPES = {  # the format's codes; JAX registers the names that NumPy itself does not have
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "C64": "complex64",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "F8_E4M3": "float8_e4m3fn", "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip


def save_safetensors(
    params: Mapping[str, Any], path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a parameter tree to a file, whole or not at all. An existing file is replaced.

    torch can read the file: its `load_state_dict` takes what `safetensors.torch.load_file` returns. The file is
    lossless.

    Args:
      params: arrays by name, or nested dicts, whose names are joined by dots: "lstm.weight_ih_l0". Each array keeps its
        dtype, `bfloat16` too.
      path: the file. Its name ends in ".safetensors".
      metadata: text by name, for the header of the file.

    Returns:
      None.

    Raises:
      ImportError: safetensors is not installed (extra "files").
      TypeError: a leaf is no array, or `metadata` is no text.
      ValueError: the name has another ending, two leaves have one name, or values are not known because of a
        transformation.
      OSError: writing failed.

    Examples:
      >>> import os
      >>> import tempfile
      >>> import jax
      >>> import jax_lstm
      >>> params = jax_lstm.init_lstm(jax.random.key(0), 3, 5)
      >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
      >>> jax_lstm.convert.save_safetensors({"lstm": params}, path)
      >>> os.path.exists(path)
      True
    """
    package, file = _require_safetensors(), _check_ending(path)
    arrays = {name: np.ascontiguousarray(concrete(a, "save_safetensors")) for name, a in flatten(params).items()}
    if metadata is not None and any(not isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError(f"metadata must map text to text; got {dict(metadata)!r}.")
    content = package.numpy.save(arrays, metadata=None if metadata is None else dict(metadata))
    with whole(file) as aside:
        aside.write_bytes(content)


def load_safetensors(
    path: str | os.PathLike[str], prefix: str = "", *, dtype: DTypeLike | None = None
) -> dict[str, Any]:
    """Read a file of arrays as a parameter tree; the inverse of `jax_lstm.convert.save_safetensors`.

    The conversion is lossless unless `dtype` is narrower.

    Args:
      path: the file. Its name ends in ".safetensors".
      prefix: take only the entries under this prefix, such as "lstm.", and strip it.
      dtype: the dtype to cast floating-point entries to. None keeps each entry's own.

    Returns:
      A dict of jax arrays. Dotted names become nested dicts: "lstm.weight_ih_l0" is `tree["lstm"]["weight_ih_l0"]`.

    Raises:
      ImportError: safetensors is not installed (extra "files").
      ValueError: the file is not there, is damaged or of another format, or has a dtype that JAX does not have; nothing
        is under `prefix`, or `prefix` lacks its dot; or a 64-bit entry would lose bits because x64 is off.

    Examples:
      >>> import os
      >>> import tempfile
      >>> import jax
      >>> import jax_lstm
      >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
      >>> jax_lstm.convert.save_safetensors({"lstm": jax_lstm.init_lstm(jax.random.key(0), 3, 5)}, path)
      >>> params = jax_lstm.convert.load_safetensors(path, prefix="lstm.")
      >>> params["weight_ih_l0"].shape
      (20, 3)
    """
    file = _check_ending(path)
    _require_safetensors()
    if not file.is_file():
        raise ValueError(f"{file} is no file; expected one that save_safetensors or torch's safetensors wrote.")
    try:
        arrays, unknown = map_safetensors(file)
    except ValueError as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}. Is it whole? Save it again.") from error
    for name, code in unknown.items():
        raise ValueError(f"{file}: {name!r} has dtype {code}; supported: {', '.join(DTYPES)}.")
    return from_torch(arrays, prefix, dtype=dtype)


def map_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a file by name, as read-only views of the file, and the other entries' dtype codes by name.

    safetensors itself checks the header: its size, and that the entries lie in the file one after another. Its own
    arrays are not used, because they have no float8 in NumPy.

    Raises:
      ImportError: safetensors is not installed.
      ValueError: the file is damaged or of another format.
    """
    package = _require_safetensors()
    try:
        with package.safe_open(path, framework="np") as file:
            names = list(file.keys())
    except package.SafetensorError as error:
        raise ValueError(str(error)) from error
    content = np.memmap(path, np.uint8, mode="r").view(np.ndarray)
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(bytes(content[8:start]))
    arrays: dict[str, np.ndarray] = {}
    unknown: dict[str, str] = {}
    for name in names:
        code, shape, (begin, end) = (header[name][key] for key in ("dtype", "shape", "data_offsets"))
        if code in DTYPES:
            arrays[name] = content[start + begin : start + end].view(np.dtype(DTYPES[code])).reshape(shape)
        else:
            unknown[name] = code
    return arrays, unknown


def _require_safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("safetensors files need the package safetensors: pip install 'jax-lstm[files]'.") from error
    return safetensors


def _check_ending(path: str | os.PathLike[str]) -> Path:
    if Path(path).suffix != ENDING:
        raise ValueError(f"path must end in {ENDING!r}; got {os.fspath(path)!r}.")
    return Path(path)
