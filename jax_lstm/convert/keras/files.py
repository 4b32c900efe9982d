"""Keras's files: .keras and .weights.h5 of Keras 3, and the HDF5 files of Keras 2. Their content tells which one it is.

    .keras         a zip archive of a configuration and of a file of weights like the next
    .weights.h5    HDF5 with a group per layer, ``layers/lstm/cell/vars/0``, ``1`` and ``2`` for the kernel, the
                   recurrent kernel and the bias
    .h5, .hdf5     HDF5 with arrays by name, with or without a configuration: see keras2_files.py

In Keras 3's files, the name of a group is the class in snake case and a number. Keras's name of the layer is the
attribute "name" of its ``vars``; Keras 3.6 writes it and Keras 3.3 does not. Nothing of a file is run: no configuration
is deserialised, and nothing outside of the file is followed. An archive has checksums, which are checked before HDF5's
library reads its weights. HDF5 files have none, and overwritten bytes can crash that library.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

from jax_lstm.convert.keras import keras2_files, weights_files
from jax_lstm.convert.keras.hdf5 import check_size
from jax_lstm.convert.keras.inventory import DAMAGE, Inventory, reason_of
from jax_lstm.convert.keras.model_configs import inventory_of_model
from jax_lstm.convert.keras.weights_files import GroupWeights

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"  # how these files begin
CONFIG_MEMBER, WEIGHTS_MEMBER = "config.json", "model.weights.h5"


@contextmanager
def open_inventory(path: Path) -> Iterator[Inventory]:
    """Yield the layers of a file, which are read while it is open. ValueError, with the path, for all that is wrong."""
    h5py = _require_h5py(path)
    with path.open("rb") as file, _errors_with(path):
        start = file.read(len(HDF5))
        file.seek(0)
        if start == HDF5:
            with h5py.File(file, "r") as hdf5:
                yield keras2_files.inventory_of_file(hdf5) or weights_files.inventory_of_file(GroupWeights(hdf5))
        elif start.startswith(ZIP):
            with zipfile.ZipFile(file) as archive:
                missing = {CONFIG_MEMBER, WEIGHTS_MEMBER} - set(archive.namelist())
                if missing:
                    raise ValueError(f"must be a .keras file, and lacks {' and '.join(sorted(missing))}.")
                config = json.loads(_read_member(archive, CONFIG_MEMBER))
                with h5py.File(io.BytesIO(_read_member(archive, WEIGHTS_MEMBER)), "r") as hdf5:
                    yield inventory_of_model(config, partial(GroupWeights(hdf5).entry, "layers"))
        else:
            raise ValueError(
                "must be a .keras, .weights.h5, .h5 or .hdf5 file of Keras's, and begins like neither a zip archive "
                "nor an HDF5 file."
            )


def _require_h5py(path: Path) -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} needs h5py to be read: pip install 'jax-lstm[files]'.") from error
    return h5py


@contextmanager
def _errors_with(path: Path) -> Iterator[None]:
    """Turn errors into ValueErrors that begin with the path."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f"{path} {reason_of(error)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    check_size(name, info.file_size, info.compress_size)
    return archive.read(info)
