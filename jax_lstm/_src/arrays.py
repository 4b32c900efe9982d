"""Names for the types of arrays and of arguments about them, and the letters of their shapes.

T   time steps              D   inputs                        G   rows of all gates: 4H for an LSTM, H for an RNN
*batch   any batch axes     H   hidden units                  L   layers
                            P   output width: proj_size or H  R   rows of a state: L * directions
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array
ArrayLike: TypeAlias = jax.Array | np.ndarray[Any, Any]
Abstract: TypeAlias = jax.Array | np.ndarray[Any, Any] | jax.ShapeDtypeStruct  # if only shapes and dtypes are read
Listed: TypeAlias = jax.Array | np.ndarray[Any, Any] | Sequence[Any] | int  # integers or flags; lists are accepted
DType: TypeAlias = np.dtype[Any]
DTypeLike: TypeAlias = jax.typing.DTypeLike
Precision: TypeAlias = jax.lax.PrecisionLike
Params: TypeAlias = Mapping[str, Any]  # a torch state dict: arrays of any kind, by torch's names
Gates: TypeAlias = tuple[jax.Array, ...]  # one array [..., H] per gate
Tree: TypeAlias = Any  # a pytree of arrays
