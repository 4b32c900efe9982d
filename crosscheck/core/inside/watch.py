"""Watches one forward pass of a torch module: narrow types, choices that have only one side, branches on numbers."""

from __future__ import annotations

import os
import sys
from pathlib import PurePath
from types import FrameType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from crosscheck.core.inside.choices import one_side
from crosscheck.core.inside.narrow import CONSTANT, NarrowType
from crosscheck.core.inside.torch_modes import NARROW

_COMPOSED = frozenset(  # functions of torch that make choices of their own, which no input of the user can change
    ("corrcoef", "cov", "istft", "logdet", "nanquantile", "quantile", "slogdet", "stft")
)
_READS = ("float", "index", "int", "item", "tolist")  # functions that give the user a number
_OF_TORCH = ("_local_scalar_dense", "bitwise_and", "bitwise_or", "logical_and", "logical_or", "__and__", "__or__")
_PLAIN = ("empty", "full", "ones", "zeros")  # they make constants that are no rounded numbers, or that the user chose
_TORCH = os.path.join(os.path.dirname(torch.__file__), "")
_CROSSCHECK = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_JUDGE = tuple(os.path.join(_CROSSCHECK, folder, "") for folder in ("core", "suite"))
_DISPATCHER = tuple(os.path.join(_TORCH, name) for name in ("_dynamo", "_compile.py", "_tensor.py"))
_UNKNOWN = "an unknown place"


class _Call(TorchFunctionMode):
    """The name of the function of torch that the user's code has called, and that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.name = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before, self.name = self.name, str(getattr(func, "__name__", "")).strip("_").rpartition("_")[2]
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.name = before


class Watch(TorchDispatchMode):
    """A dispatch mode that changes nothing.

    Attributes:
      narrow: where the module computes in a narrower type than float64, each place once.
      one_sided: choices that showed only one side, in words, each once, with the place in the user's code.
    """

    def __init__(self) -> None:
        super().__init__()
        self._narrow: dict[NarrowType, None] = {}
        self._one_sided: dict[str, None] = {}
        self._call = _Call()

    def __enter__(self) -> Watch:
        """Begin."""
        self._call.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._call.__exit__(*error)  # type: ignore[no-untyped-call]

    @property
    def narrow(self) -> list[NarrowType]:
        """The narrow types."""
        return list(self._narrow)

    @property
    def one_sided(self) -> list[str]:
        """The choices that showed only one side."""
        return list(self._one_sided)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and note what is of interest."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        text = one_side(name, args, kwargs)  # before the operation, which may change its arguments in place
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and out.dtype in NARROW:
            self._see_narrow(name, args, out)
        if text and not self._is_torchs_own(name, args):
            where = _location()
            self._one_sided[f"{text} at {where}" if where else text] = None
        return out

    def _is_torchs_own(self, name: str, args: Any) -> bool:
        """Return whether torch itself makes a choice, so that no input of the user's can change it."""
        reads_number = name == "_local_scalar_dense" and args[0].dtype is not torch.bool
        return self._call.name in _COMPOSED or (reads_number and self._call.name not in _READS) or _is_in_torch(name)

    def _see_narrow(self, name: str, args: Any, out: torch.Tensor) -> None:
        wide = any(isinstance(a, torch.Tensor) and a.dtype is torch.float64 for a in args)
        floating = any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in args)
        is_constant = not floating or name == "lift_fresh"
        if wide or (is_constant and not name.removeprefix("new_").startswith(_PLAIN) and out.numel()):
            excuse = CONSTANT * (is_constant and not wide)
            self._narrow[NarrowType(str(out.dtype).removeprefix("torch."), _location() or _UNKNOWN, excuse)] = None


def _is_in_torch(name: str) -> bool:
    """Return whether Python code of torch makes a choice, such as to check the arguments of a distribution."""
    frame = _caller()
    if frame is None or not frame.f_code.co_filename.startswith(_TORCH):
        return False
    file = frame.f_code.co_filename.removeprefix(_TORCH)
    return name in _OF_TORCH or file == os.path.join("distributions", "constraints.py")


def _caller() -> FrameType | None:
    """Return the frame that called the operation. Between the two are frames of this file and of the dispatcher."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((__file__, *_DISPATCHER)):
        frame = frame.f_back
    return frame


def _location() -> str:
    """Return where the user's code called the operation: "model.py:12 (forward)"; "" if a module of torch did."""
    frame = _caller()
    while frame is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    if frame is None or frame.f_code.co_filename.startswith(_JUDGE):
        return ""
    return f"{PurePath(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"
