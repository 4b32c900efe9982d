"""Keras's files: .keras and .weights.h5 of Keras 3, and the HDF5 files of Keras 2, known by their content.

    .keras         a zip archive of a configuration and of a file of weights like the next
    .weights.h5    HDF5 with a group per layer, ``layers/lstm/cell/vars/0``, ``1`` and ``2`` for the kernel, the
                   recurrent kernel and the bias
    .h5, .hdf5     HDF5 with arrays by name, with or without a configuration: see legacy.py

Groups of Keras 3's files have names of their own, the class in snake case and a number; Keras's name of the layer is
the attribute "name" of its ``vars``, which Keras 3.3 does not write yet and 3.6 does. Nothing of a file is run: no
configuration is deserialised, and what lies outside of the file is not followed. An archive has checksums, held to
before HDF5's library sees its weights. HDF5 files have none, and overwritten bytes can crash that library.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jax_lstm.convert.keras import legacy, weights
from jax_lstm.convert.keras.hdf5 import array, check_size, child, text
from jax_lstm.convert.keras.inventory import DAMAGE, Inventory, reason
from jax_lstm.convert.keras.layers import Store
from jax_lstm.convert.keras.models import inventory

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"  # what these files begin with
CONFIG_MEMBER, WEIGHTS_MEMBER = "config.json", "model.weights.h5"


@contextmanager
def opened(path: Path) -> Iterator[Inventory]:
    """Yield what a file has, to be read while it is open. ValueError, with the path, for whatever is wrong in it."""
    h5py = _h5py(path)
    with path.open("rb") as file, _naming(path):
        start = file.read(len(HDF5))
        file.seek(0)
        if start == HDF5:
            with h5py.File(file, "r") as hdf5:
                yield legacy.inventory(hdf5) or weights.inventory(Groups(hdf5))
        elif start.startswith(ZIP):
            with zipfile.ZipFile(file) as archive:
                missing = {CONFIG_MEMBER, WEIGHTS_MEMBER} - set(archive.namelist())
                if missing:
                    raise ValueError(f"must be a .keras file, and lacks {' and '.join(sorted(missing))}.")
                config = json.loads(_member(archive, CONFIG_MEMBER))
                with h5py.File(io.BytesIO(_member(archive, WEIGHTS_MEMBER)), "r") as hdf5:
                    yield inventory(config, lambda: Groups(hdf5))
        else:
            raise ValueError(
                "must be a .keras, .weights.h5, .h5 or .hdf5 file of Keras's, and begins like neither a zip archive "
                "nor an HDF5 file."
            )


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} needs h5py to be read: pip install 'jax-lstm[files]'.") from error
    return h5py


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors with the path before them, as ValueErrors."""
    try:
        yield
    except DAMAGE as error:
        raise ValueError(f"{path} {reason(error)}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    check_size(name, info.file_size, info.compress_size)
    return archive.read(info)


class Groups(Store):
    """The weights of a layer, or of all, as a group of an HDF5 file of Keras 3."""

    def __init__(self, group: Any):
        self.group = group

    def attribute(self, name: str) -> Groups:
        return Groups(child(self.group, name))

    def entry(self, container: str, name: str, group: str) -> Groups:
        found = self.attribute(container).attribute(group)
        if found.name not in (None, name):
            raise ValueError(
                f"{found.group.name} has the weights of {found.name!r}, where the configuration has {name!r}: the file "
                "was changed, or its configuration and weights are of two models."
            )
        return found

    def weights(self) -> list[Any]:
        values = child(self.group, "vars")
        return [array(child(values, name)) for name in sorted(values, key=int)]

    @property
    def name(self) -> str | None:
        """Keras's name of the layer, where the file has it."""
        return text(child(self.group, "vars"), "name") if "vars" in self.group else None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its own arrays, by their numbers; none where it has no vars."""
        values = child(self.group, "vars") if "vars" in self.group else {}
        return {name: getattr(child(values, name), "shape", ()) for name in sorted(values)}

    def groups(self) -> dict[str, Groups]:
        """The groups below, but for vars."""
        found = {name: child(self.group, name) for name in self.group if name != "vars"}
        return {name: Groups(group) for name, group in found.items() if hasattr(group, "keys")}
