"""A metaclass that shows a constructor's signature to inspect."""

from __future__ import annotations

import inspect

from flax.nnx.module import ModuleMeta


class Signed(ModuleMeta):
    """nnx's metaclass hides a constructor's signature from inspect; here it is again."""

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])
