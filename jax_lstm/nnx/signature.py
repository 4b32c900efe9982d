"""A metaclass whose classes show the signature of their constructor to inspect."""

from __future__ import annotations

import inspect

from flax.nnx.module import ModuleMeta


class Signed(ModuleMeta):
    """The metaclass of our nnx modules. nnx's own metaclass hides the signature of the constructor from inspect."""

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])
