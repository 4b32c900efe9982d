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
_PLAIN = ("empty", "full", "ones", "zeros")  # they make constants that are no rounded numbers, or that the user chose
_TORCH = os.path.join(os.path.dirname(torch.__file__), "")
_CROSSCHECK = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
_JUDGE = tuple(os.path.join(_CROSSCHECK, folder, "") for folder in ("core", "suite"))
_DISPATCHER = tuple(os.path.join(_TORCH, name) for name in ("_dynamo", "_compile.py", "_tensor.py"))
_UNKNOWN = "an unknown place"


class _Calls(TorchFunctionMode):
    """The functions of torch that are running, by name, the innermost last."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(getattr(func, "__name__", "")).rpartition("_")[2])
        try:
            return func(*args, **(kwargs or {}))
        finally:
            self.names.pop()


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
        self._calls = _Calls()

    def __enter__(self) -> Watch:
        """Begin."""
        self._calls.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._calls.__exit__(*error)  # type: ignore[no-untyped-call]

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
        name = func.overloadpacket.__name__
        text = one_side(name, args, kwargs)  # before the operation, which may change its arguments in place
        out = func(*args, **kwargs)
        if isinstance(out, torch.Tensor) and out.dtype in NARROW:
            self._see_narrow(name, args, out)
        if text and not _COMPOSED.intersection(self._calls.names) and not _checks_arguments(name):
            where = _location()
            self._one_sided[f"{text} at {where}" if where else text] = None
        return out

    def _see_narrow(self, name: str, args: Any, out: torch.Tensor) -> None:
        wide = any(isinstance(a, torch.Tensor) and a.dtype is torch.float64 for a in args)
        floating = any(isinstance(a, torch.Tensor) and a.is_floating_point() for a in args)
        is_constant = not floating or name == "lift_fresh"
        if wide or (is_constant and not name.removeprefix("new_").startswith(_PLAIN) and out.numel()):
            excuse = CONSTANT * (is_constant and not wide)
            self._narrow[NarrowType(str(out.dtype).removeprefix("torch."), _location() or _UNKNOWN, excuse)] = None


def _checks_arguments(name: str) -> bool:
    """Return whether torch itself makes a choice in order to check arguments, such as those of a distribution."""
    frame = _caller()
    if frame is None or not frame.f_code.co_filename.startswith(_TORCH):
        return False
    file = frame.f_code.co_filename.removeprefix(_TORCH)
    return name == "_local_scalar_dense" or file == os.path.join("distributions", "constraints.py")


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
