"""Distinguishes errors of torch about the dtypes of tensors from errors of the user's own code about dtypes."""

from __future__ import annotations

import re

import torch

from crosscheck.core.errors import is_raised_outside

_ABOUT_DTYPES = re.compile(  # what torch says of tensors of a wrong dtype, or of two
    r"\bsame (dtype|datatype|data type|scalar type)"
    r"|[Ee]xpected (object of scalar type|scalar type|[\w ]*dtype)"
    r"|of the following scalar types"
    r"|dtypes (must be the same|match)"
    r"|dtype to be equal to"
    r"|Found dtype \w+ but expected"
    r"|does not match weight dtype"
    r"|Input type \(.*\) and \w+ type \(.*\) should be the same"
    r"|can't be cast to the desired output type"
    r"|not implemented for '"
    r"|dtypes not supported|Unsupported dtype|Type promoting not supported|could not infer output dtype"
)


def is_about_dtypes(error: Exception) -> bool:
    """Return whether torch itself says that it cannot compute with tensors of these dtypes."""
    is_torchs = isinstance(error, RuntimeError | ValueError) and not is_raised_outside(error, torch)
    return is_torchs and _ABOUT_DTYPES.search(str(error)) is not None
