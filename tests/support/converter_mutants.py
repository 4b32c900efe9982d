"""jax_lstm.convert with a mistake: a second copy of its modules, compiled from their files with one text replaced."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from jax_lstm import convert

FOLDER = Path(convert.__file__).parent
COPY = "convert_with_a_mistake"
FILES = (
    "arrays",
    "gates",
    "layers",
    "nesting",
    "flax_linen",
    "flax_nnx",
    "joint",
    "haiku",
    "equinox",
    "torch",
    "cudnn",
)


@contextmanager
def mutant(file: str, right: str, wrong: str):
    """Yield the copy's public functions by name. Raise AssertionError if ``right`` is not in the file exactly once."""
    package = ModuleType(COPY)
    sys.modules[COPY] = package
    try:
        for name in FILES:
            text = (FOLDER / f"{name}.py").read_text()
            if name == file:
                assert text.count(right) == 1, f"{file}.py has {text.count(right)} times {right!r}: renew this mistake"
                text = text.replace(right, wrong)
            module = ModuleType(f"{COPY}.{name}")
            sys.modules[module.__name__] = module
            setattr(package, name, module)
            exec(compile(text.replace("jax_lstm.convert", COPY), f"{name}.py", "exec"), module.__dict__)
        public = (vars(getattr(package, name)).items() for name in FILES)
        yield {name: f for module in public for name, f in module if name.startswith(("to_", "from_"))}
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == COPY]:
            del sys.modules[name]
