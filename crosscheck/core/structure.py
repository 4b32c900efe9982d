"""What a program returns, as arrays with paths: torch's tuples, lists, mappings and dataclasses, and JAX's pytrees.

The outputs of both sides are matched by path: keys of dicts and dataclasses in any order, sequences by index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

import jax
import torch
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

Path: TypeAlias = tuple[str | int, ...]  # keys of mappings and names of fields; positions in sequences


@dataclass(frozen=True)
class Outputs:
    """The arrays that a program returned.

    Attributes:
      paths: the path of each array.
      leaves: the arrays.
      packed: the paths of arrays that were a PackedSequence in torch, and are padded here.
    """

    paths: tuple[Path, ...]
    leaves: tuple[Any, ...]
    packed: tuple[Path, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The default names: "output 0" and so on, or the keys: "loss", "hidden_states[0]"."""
        return tuple(_name(path, n) for n, path in enumerate(self.paths))


def torch_outputs(out: Any, time_major: bool = False) -> Outputs:
    """Return the tensors of what a module returned. None is left out, and a PackedSequence is padded with zeros.

    Args:
      out: what the module returned.
      time_major: pad to ``[T, B, ...]`` in place of ``[B, T, ...]``.

    Raises:
      TypeError: there is a leaf that is no tensor.
    """
    paths, leaves, packed = [], [], []
    for path, leaf in _flatten(out, ()):
        if isinstance(leaf, PackedSequence):
            packed.append(path)
            leaf, _ = pad_packed_sequence(leaf, batch_first=not time_major)
        if not isinstance(leaf, torch.Tensor):
            where = f" at {path_text(path)}" if path else ""
            raise TypeError(
                "the torch module must return tensors in tuples, lists, mappings or dataclasses; "
                f"got a {type(leaf).__name__}{where}. Choose its tensors with "
                "torch_fn=lambda module, *inputs: ..."
            )
        paths.append(path)
        leaves.append(leaf)
    return Outputs(tuple(paths), tuple(leaves), tuple(packed))


def tree_outputs(tree: Any) -> Outputs:
    """Return the arrays of a nested structure that came from torch or NumPy, such as cotangents."""
    found = list(_flatten(tree, ()))
    return Outputs(tuple(path for path, _ in found), tuple(leaf for _, leaf in found))


def jax_outputs(out: Any) -> Outputs:
    """Return the arrays of what a JAX function returned. None is left out."""
    found, _ = jax.tree_util.tree_flatten_with_path(out)
    return Outputs(tuple(tuple(map(_key, path)) for path, _ in found), tuple(leaf for _, leaf in found))


def order_of(wanted: Sequence[Path], given: Sequence[Path]) -> list[int]:
    """Return where each wanted path stands among the given ones.

    Raises:
      ValueError: the paths are not the same. The message says how they differ.
    """
    if set(wanted) != set(given):
        raise ValueError(_difference(wanted, given))
    return [list(given).index(path) for path in wanted]


def path_text(path: Path) -> str:
    """Return a path in words, such as "hidden_states[0]" or "position 1"."""
    return _name(path, -1) if any(isinstance(key, str) for key in path) else f"position {', '.join(map(str, path))}"


def structure_text(paths: Sequence[Path]) -> str:
    """Return a structure with a star per array, such as "(*, {'h': *, 'c': *})"."""
    if list(paths) == [()]:
        return "*"
    parts: dict[str | int, list[Path]] = {}
    for path in paths:
        parts.setdefault(path[0], []).append(path[1:])
    texts = {key: structure_text(part) for key, part in parts.items()}
    if any(isinstance(key, str) for key in texts):
        return "{" + ", ".join(f"{key!r}: {text}" for key, text in texts.items()) + "}"
    inside = ", ".join(texts.values())
    return f"({inside},)" if len(texts) == 1 else f"({inside})"


def _flatten(out: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if out is None:
        return
    parts = _parts(out)
    if parts is None:
        yield path, out
        return
    for key, part in parts:
        yield from _flatten(part, (*path, key))


def _parts(out: Any) -> list[tuple[str | int, Any]] | None:
    """Return what a container holds, by key; None if it is no container."""
    if isinstance(out, Mapping):
        return [(_text(key), value) for key, value in out.items()]
    if isinstance(out, PackedSequence):
        return None
    if isinstance(out, tuple) and hasattr(out, "_fields"):
        return list(zip(out._fields, out, strict=True))
    if isinstance(out, tuple | list):
        return list(enumerate(out))
    if is_dataclass(out) and not isinstance(out, type):
        return [(field.name, getattr(out, field.name)) for field in fields(out)]
    return None


def _key(entry: Any) -> str | int:
    """Return a key of JAX's path as a key of ours."""
    for attribute in ("name", "idx", "key"):
        if hasattr(entry, attribute):
            return _text(getattr(entry, attribute))
    return str(entry)


def _text(key: Any) -> str | int:
    return key if isinstance(key, int) and not isinstance(key, bool) else str(key)


def _name(path: Path, n: int) -> str:
    if not any(isinstance(key, str) for key in path):
        return f"output {n}"
    first, *rest = path
    start = f"output {first}" if isinstance(first, int) else first
    return start + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in rest)


def _difference(wanted: Sequence[Path], given: Sequence[Path]) -> str:
    text = (
        f"jax_fn must return the structure that the torch module returns, {structure_text(wanted)}; "
        f"got {structure_text(given)}."
    )
    named = [any(isinstance(key, str) for path in paths for key in path) for paths in (wanted, given)]
    if named == [True, False]:
        return (
            f"{text} torch's outputs have names. Return a dict with these keys from jax_fn, "
            "or choose tensors with torch_fn=lambda module, *inputs: ..."
        )
    if all(named):
        missing, unknown = (
            ", ".join(path_text(path) for path in some if path not in other) or "nothing"
            for some, other in ((wanted, given), (given, wanted))
        )
        return f"{text} jax_fn lacks {missing}; torch lacks {unknown}."
    return f"{text} Reorder or unpack its outputs, such as an LSTMState into (state.h, state.c)."
