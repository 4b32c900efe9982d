"""The libraries that some tests need beyond JAX, Flax and NumPy. If one is not installed, its tests skip with a reason.

`make test-newest` runs the suite without torch. A file in which every test needs torch begins with `need("torch")`,
before it imports anything that imports torch. Any other test calls `need` in its first line.
"""

from __future__ import annotations

from typing import Any

import pytest

EXTRAS = {  # the extra of pyproject.toml that brings a module
    "equinox": "libraries",
    "h5py": "files",
    "haiku": "libraries",
    "hypothesis": "test",
    "jsonschema": "test",
    "keras": "libraries",
    "onnx": "files",
    "onnxruntime": "libraries",
    "safetensors": "files",
    "torch": "crosscheck",
}


def need(module: str) -> Any:
    """Return the imported module. Skip the test if it is not installed, or the whole file if called at its top."""
    return pytest.importorskip(module, reason=f"{module} is of the extra {EXTRAS[module]!r}, which is not installed")
