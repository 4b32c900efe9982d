"""Keras 3's files: .keras, a zip archive of a configuration and weights, and .weights.h5, weights alone.

Both keep weights in one HDF5 file with a group a layer, ``layers/lstm/cell/vars/0``, ``1`` and ``2`` for the kernel,
the recurrent kernel and the bias. Groups have names of their own, the class in snake case and a number; Keras's name
of the layer is the attribute "name" of its ``vars``, which Keras 3.3 does not write yet and 3.6 does. Nothing of a
file is run: no configuration is deserialised, and what lies outside of the file is not followed. An archive has
checksums, held to before HDF5's library sees its weights. A .weights.h5 has none, and overwritten bytes can crash
that library.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jax_lstm.convert.keras_layers import ReadCell, Store
from jax_lstm.convert.keras_models import read_model
from jax_lstm.convert.keras_weights import read_weights
from jax_lstm.convert.layers import Layer

ARCHIVE, WEIGHTS = ".keras", ".weights.h5"
CONFIG_MEMBER, WEIGHTS_MEMBER = "config.json", "model.weights.h5"
LARGE, DENSE = 2**30, 1000  # a file that declares more bytes than this, and this times what it holds, is a trap
_DAMAGE = (
    OSError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, MemoryError, UnicodeError,
    json.JSONDecodeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_file(path: Path, names: Any, read: ReadCell) -> list[Layer]:
    """The layers of a file, chosen by ``names``. ValueError, with the path, for whatever is wrong in it."""
    wanted = f"must be a {ARCHIVE} or {WEIGHTS} file of Keras 3"
    if not path.name.endswith((ARCHIVE, WEIGHTS)):
        older = path.suffix in (".h5", ".hdf5")
        advice = " Is it Keras's older HDF5 format? Load it with Keras and save it as .keras." if older else ""
        raise ValueError(f"{path} {wanted}, by the end of its name.{advice}")
    h5py = _h5py(path)
    with path.open("rb") as file, _naming(path):
        if path.name.endswith(WEIGHTS):
            with h5py.File(file, "r") as weights:
                return read_weights(Groups(weights), names, read)
        with zipfile.ZipFile(file) as archive:
            missing = {CONFIG_MEMBER, WEIGHTS_MEMBER} - set(archive.namelist())
            if missing:
                raise ValueError(f"{wanted}, and lacks {' and '.join(sorted(missing))}.")
            config = json.loads(_member(archive, CONFIG_MEMBER))
            with h5py.File(io.BytesIO(_member(archive, WEIGHTS_MEMBER)), "r") as weights:
                return read_model(config, Groups(weights), names, read)


def _h5py(path: Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} needs h5py to be read: pip install 'jax-lstm[files]'.") from error
    return h5py


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Errors with the path before them, as ValueErrors. Those of a reader that met nonsense say that it is damaged."""
    try:
        yield
    except _DAMAGE as error:
        said = " ".join(str(error).split()).rstrip(".")
        raise ValueError(
            f"{path} is damaged, or not as Keras 3 writes it: {type(error).__name__}{f', {said}' * bool(said)}."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    _check_size(name, info.file_size, info.compress_size)
    return archive.read(info)


def _check_size(name: str, declared: int, held: int) -> None:
    if declared > max(LARGE, DENSE * held):
        raise ValueError(f"{name} declares {declared} bytes and holds {held}: it is no file of Keras's.")


class Groups(Store):
    """The weights of a layer, or of all, as a group of an HDF5 file."""

    def __init__(self, group: Any):
        self.group = group

    def attribute(self, name: str) -> Groups:
        return Groups(self._child(name))

    def entry(self, container: str, name: str, group: str) -> Groups:
        found = self.attribute(container).attribute(group)
        if found.name not in (None, name):
            raise ValueError(
                f"{found.group.name} has the weights of {found.name!r}, where the configuration has {name!r}: the file "
                "was changed, or its configuration and weights are of two models."
            )
        return found

    def weights(self) -> list[Any]:
        values = self.attribute("vars")
        return [_array(values._child(name)) for name in sorted(values.group, key=int)]

    @property
    def name(self) -> str | None:
        """Keras's name of the layer, where the file has it."""
        stored = self._child("vars").attrs.get("name") if "vars" in self.group else None
        return None if stored is None else str(stored)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of its own arrays, by their numbers; none where it has no vars."""
        values = self.attribute("vars") if "vars" in self.group else None
        return {name: getattr(values._child(name), "shape", ()) for name in sorted(values.group)} if values else {}

    def groups(self) -> dict[str, Groups]:
        """The groups below, but for vars."""
        found = {name: self._child(name) for name in self.group if name != "vars"}
        return {name: Groups(group) for name, group in found.items() if hasattr(group, "keys")}

    def _child(self, name: str) -> Any:
        """A group or array right below; never what a link points to, which may be another file."""
        link = self.group.get(name, getlink=True)
        if link is None:
            raise ValueError(f"{self.group.name} has no {name!r}: was the model built when it was saved?")
        if type(link).__name__ != "HardLink":
            raise ValueError(f"{self.group.name} has {name!r} as a {type(link).__name__}: it is no file of Keras's.")
        return self.group[name]


def _array(stored: Any) -> np.ndarray:
    if stored.external or stored.is_virtual:
        raise ValueError(f"{stored.name} lies in another file: it is no file of Keras's.")
    _check_size(stored.name, stored.nbytes, stored.id.get_storage_size())
    if stored.attrs.get("dtype") == "bfloat16":  # which HDF5 has no name for
        return stored[()].view(jnp.bfloat16)
    return stored[()]
