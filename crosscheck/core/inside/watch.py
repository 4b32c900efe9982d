"""Watches one forward pass of a torch module: narrow types, choices that have only one side, branches on numbers."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from types import FrameType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from crosscheck.core.inside.choices import one_side
from crosscheck.core.inside.narrow import NarrowType
from crosscheck.core.inside.torch_modes import NARROW

_PLAIN = ("empty", "full", "ones", "zeros")  # they make constants that are no rounded numbers, or that the user chose
_TORCH = os.path.join(os.path.dirname(torch.__file__), "")
_CROSSCHECK = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_JUDGE = tuple(os.path.join(_CROSSCHECK, folder, "") for folder in ("core", "suite"))
_UNKNOWN = "an unknown place"


class Watch(TorchDispatchMode):
    """A dispatch mode that changes nothing.

    Attributes:
      narrow: where the module computes in a narrower type than float64, each place once.
      one_sided: what only one side of a choice was seen of, in words, each once, with the place in the user's code.
    """

    def __init__(self) -> None:
        super().__init__()
        self._narrow: dict[NarrowType, None] = {}
        self._one_sided: dict[str, None] = {}

    @property
    def narrow(self) -> list[NarrowType]:
        """The narrow types."""
        return list(self._narrow)

    @property
    def one_sided(self) -> list[str]:
        """The choices of which only one side was seen."""
        return list(self._one_sided)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and note what is of interest."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if isinstance(out, torch.Tensor) and out.dtype in NARROW:
            self._see_narrow(name, args, out)
        text = one_side(name, args, kwargs)
        if text:
            where = _location()
            self._one_sided[f"{text} at {where}" if where else text] = None
        return out

    def _see_narrow(self, name: str, args: Any, out: torch.Tensor) -> None:
        wide = any(isinstance(a, torch.Tensor) and a.dtype is torch.float64 for a in args)
        floating = any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in args)
        is_constant = not floating or name == "lift_fresh"
        if wide or (is_constant and not name.removeprefix("new_").startswith(_PLAIN) and out.numel()):
            self._narrow[NarrowType(str(out.dtype).removeprefix("torch."), _location() or _UNKNOWN)] = None


def _location() -> str:
    """Return where the user's code called the operation: "model.py:12 (forward)"; "" if a module of torch did."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    while frame is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_JUDGE):
        return ""
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
