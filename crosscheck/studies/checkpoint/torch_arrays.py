"""NumPy arrays to torch tensors and back. ml_dtypes has the dtypes that NumPy does not have."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch

_INTEGERS = {1: (np.uint8, torch.uint8), 2: (np.int16, torch.int16)}


def to_torch(array: np.ndarray) -> torch.Tensor:
    """Return a copy of ``array`` as a tensor."""
    copy = np.array(array)
    if hasattr(ml_dtypes, copy.dtype.name):
        integers, _ = _INTEGERS[copy.dtype.itemsize]
        return torch.from_numpy(copy.view(integers)).view(getattr(torch, copy.dtype.name))
    return torch.from_numpy(copy)


def from_torch(tensor: torch.Tensor) -> np.ndarray:
    """Return an array over the same memory. TypeError if neither NumPy nor ml_dtypes has the dtype."""
    try:
        return tensor.numpy()
    except TypeError:
        narrow = getattr(ml_dtypes, str(tensor.dtype).removeprefix("torch."), None)
        if narrow is None or tensor.element_size() not in _INTEGERS:
            raise
        _, integers = _INTEGERS[tensor.element_size()]
        return tensor.view(integers).numpy().view(narrow)
