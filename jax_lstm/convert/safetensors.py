"""Parameter trees as safetensors files: by dotted names, as torch writes and reads them, and lossless."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lstm._src.files import whole
from jax_lstm.convert.layers import known
from jax_lstm.convert.torch import from_torch

ENDING = ".safetensors"
DTYPES = {
    "F64": jnp.float64, "F32": jnp.float32, "F16": jnp.float16, "BF16": jnp.bfloat16, "BOOL": jnp.bool_,
    "I64": jnp.int64, "I32": jnp.int32, "I16": jnp.int16, "I8": jnp.int8,
    "U64": jnp.uint64, "U32": jnp.uint32, "U16": jnp.uint16, "U8": jnp.uint8,
}  # fmt: skip


def save_safetensors(
    params: Mapping[str, Any], path: str | os.PathLike[str], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a parameter tree to a file, whole or not at all; a file that is there is replaced.

    Args:
      params: arrays by name, nested dicts joined by dots: "lstm.weight_ih_l0". torch's load_state_dict takes what
        safetensors.torch.load_file reads. Each array keeps its dtype, bfloat16 too.
      path: the file; its name ends in ".safetensors".
      metadata: text by name, for the file's header.

    Raises:
      ImportError: safetensors is not installed (extra "files").
      TypeError: a leaf is no array, or ``metadata`` no text. ValueError: the name's ending; two leaves of one name;
        values under a transformation. OSError: writing failed.
    """
    package, file = _package(), _checked(path)
    flat = _flat(params)
    if metadata is not None and any(not isinstance(text, str) for item in metadata.items() for text in item):
        raise TypeError(f"metadata must map text to text; got {dict(metadata)!r}.")
    content = package.numpy.save(flat, metadata=None if metadata is None else dict(metadata))
    with whole(file) as aside:
        aside.write_bytes(content)


def load_safetensors(path: str | os.PathLike[str], prefix: str = "", *, dtype: Any = None) -> dict[str, Any]:
    """Reads a file of arrays as a parameter tree; the other way of :func:`save_safetensors`.

    Args:
      path: the file; its name ends in ".safetensors".
      prefix, dtype: as in :func:`from_torch`.

    Returns:
      As :func:`from_torch`: jax arrays, dots in names become nested dicts. Lossless unless ``dtype`` is narrower.

    Raises:
      ImportError: safetensors is not installed (extra "files").
      ValueError: the file is not there, damaged or of another format, or has a dtype that JAX has not; and as
        :func:`from_torch`.
    """
    package, file = _package(), _checked(path)
    if not file.is_file():
        raise ValueError(f"{file} is no file; expected one that save_safetensors or torch's safetensors wrote.")
    try:
        entries = package.deserialize(file.read_bytes())
    except package.SafetensorError as error:
        raise ValueError(f"{file} cannot be read as safetensors: {error}. Is it whole? Save it again.") from error
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{file}: {name!r} has dtype {entry['dtype']}; supported: {', '.join(DTYPES)}.")
        arrays[name] = np.frombuffer(entry["data"], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return from_torch(arrays, prefix, dtype=dtype)


def _flat(params: Mapping[str, Any], above: str = "") -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {}
    for name, value in params.items():
        full = f"{above}{name}"
        if isinstance(value, Mapping):
            found = _flat(value, full + ".")
        elif hasattr(value, "shape") and hasattr(value, "dtype"):
            found = {full: np.ascontiguousarray(known(value, "save_safetensors"))}
        else:
            raise TypeError(f"params[{full!r}] must be an array or a dict of them; got {type(value).__name__}.")
        if twice := flat.keys() & found.keys():
            raise ValueError(f"params has two entries {sorted(twice)[0]!r}: names are joined by dots.")
        flat |= found
    return flat


def _package() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError("safetensors files need the package safetensors: pip install 'jax-lstm[files]'.") from error
    return safetensors


def _checked(path: str | os.PathLike[str]) -> Path:
    if Path(path).suffix != ENDING:
        raise ValueError(f"path must end in {ENDING!r}; got {os.fspath(path)!r}.")
    return Path(path)
