"""How the Flax modules are constructed: sizes by position, every other option by name."""

from __future__ import annotations

import difflib
import functools
import inspect
import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
# Options of other libraries: what to write here, and the option that a module has if the advice is for it.
_ELSEWHERE = {
    "batch_first": ("batch_first=True is the default here, and batch_first=False is time_major=True.", "time_major"),
    "features": ("Write hidden_size=...", "hidden_size"),
    "hidden_features": ("Write hidden_size=...", "hidden_size"),
    "in_features": ("Write input_size=...", "input_size"),
    "input_size": ("The number of features is read from x.", "hidden_size"),
    "units": ("Write hidden_size=...", "hidden_size"),
}


def sizes_by_position(in_torch: str) -> Callable[[F], F]:
    """Decorate an ``__init__`` so that a surplus or unknown argument is an error that says what to write.

    ``in_torch`` shows torch's call and ours. In it, ``{0}`` and so on stand for the arguments that came.
    """

    def decorate(init: F) -> F:
        parameters = inspect.signature(init).parameters.values()
        if any(p.kind is p.VAR_POSITIONAL for p in parameters):
            return init  # the __init__ of a user's subclass, which checks its arguments itself
        by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        takes_any_name = any(p.kind is p.VAR_KEYWORD for p in parameters)
        names = [p.name for p in parameters if p.name != "self"]
        sizes = [name for name in by_position if name not in ("self", "parent", "name")]  # the last two are Flax's

        @functools.wraps(init)
        def checked(self: Any, *args: Any, **options: Any) -> None:
            if len(args) > len(sizes):
                came = [reprlib.repr(value) for value in args]
                raise TypeError(
                    f"{type(self).__name__} takes {', '.join(sizes)} by position and every other option by name; got "
                    f"{len(args)} by position: {', '.join(came)}. {in_torch.format(*came)}".rstrip()
                )
            unknown = [] if takes_any_name else [name for name in options if name not in names]
            if unknown:
                raise TypeError(f"{type(self).__name__} has no option {unknown[0]!r}. {_advice(unknown[0], names)}")
            init(self, *args, **options)

        return checked  # type: ignore[return-value]

    return decorate


def _advice(name: str, names: list[str]) -> str:
    """Return what to write for an option that a module does not have."""
    text, option = _ELSEWHERE.get(name, ("", ""))
    if option in names:
        return text
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Its options are {', '.join(names)}."


class SizesByPosition:
    """A base class that applies `sizes_by_position` to linen modules. Put it before nn.Module."""

    _in_torch = ""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # here Flax makes the __init__
        cls.__init__ = sizes_by_position(cls._in_torch)(cls.__init__)  # type: ignore[method-assign]
