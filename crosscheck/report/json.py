"""The files of --json. They are valid JSON, and begin with a version and the name of a command.

``schema.json`` beside this file is their JSON Schema. ``docs/json.md`` is made from it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

from jax_lstm._src.files import write_whole

SCHEMA_VERSION = 1  # one more if a key is removed, renamed or changed in meaning; not if one is added
Command = Literal[
    "suite",
    "bench",
    "checkpoint",
    "faults",
    "faults --models",
    "gradient-flow",
    "gradients",
    "matrix",
    "notebook",
    "train",
]  # "suite" is `crosscheck` without a subcommand


def write_json(path: Path, command: Command, content: dict[str, Any]) -> None:
    """Write ``content`` below the two keys with which every file begins, whole or not at all.

    Args:
      path: the file, which may be a device or a pipe.
      command: the command whose output it is.
      content: the keys of that command, without "schema_version" and "command".

    Raises:
      OSError: the file cannot be written.
    """
    whole = {"schema_version": SCHEMA_VERSION, "command": command} | content
    write_whole(path, json.dumps(_plain(whole), indent=1, allow_nan=False) + "\n")


def read_json(path: Path, command: Command) -> dict[str, Any]:
    """Return what `write_json` wrote, with the keys that every file has.

    Numbers that are not finite stay strings, which ``float`` accepts.

    Args:
      path: the file.
      command: the command whose output is expected.

    Raises:
      OSError: the file cannot be read.
      ValueError: the file is no file of --json, is another command's, or has a version that is unknown here.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("is nested too deeply for a result of crosscheck") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int:
        raise ValueError(f"is no result of the command {command!r}: it has no schema_version")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"has schema_version {version}, and this crosscheck reads up to {SCHEMA_VERSION}: install a newer jax-lstm"
        )
    if version < 1:
        raise ValueError(f"has schema_version {version}; the first one is 1")
    if content.get("command") != command:
        raise ValueError(f"is of command {content.get('command')!r}; expected a file of {command!r}")
    return content


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN and infinities become the strings "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
