"""A model in several files, with the index that Hugging Face's libraries write. It is JSON with a ``weight_map``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crosscheck.core.errors import first_line
from crosscheck.studies.checkpoint.contents import Checkpoint
from crosscheck.studies.checkpoint.errors import BadFile, listed

LARGEST = 2**26  # bytes of an index


def read_index(path: Path, read: Callable[[Path], Checkpoint]) -> Checkpoint:
    """Return the arrays of all shards that the index names, in its order; ``read`` reads one shard.

    Raises:
      BadFile: the file is no such index, a shard is not beside it, or a shard lacks what the index says it has.
    """
    names_of: dict[str, list[str]] = {}
    weight_map = _weight_map(path)
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or file in ("", ".", ".."):
            raise BadFile(path, f"it puts {name!r} into {file!r}, which is no file beside it", "Check the index")
        names_of.setdefault(file, []).append(name)
    parts: dict[str, Checkpoint] = {}
    for file, names in names_of.items():
        shard = path.with_name(file)
        if not shard.is_file():
            raise BadFile(path, f"its shard {file!r} is not beside it", f"Download all {len(names_of)} shards")
        part = parts[file] = read(shard)
        if missing := [name for name in names if name not in part.arrays]:
            raise BadFile(path, f"its shard {file!r} lacks {listed(missing)}", "Download it again")
    checkpoint = Checkpoint()
    for part in parts.values():  # each may hold more than is listed
        checkpoint.add(part)
    indexed = {name: parts[file].arrays[name] for name, file in weight_map.items()}
    checkpoint.arrays = indexed | checkpoint.arrays | indexed
    return checkpoint


def _weight_map(path: Path) -> dict[str, Any]:
    wrong, advice = "it is JSON and no index of shards (it has no weight_map)", "Give the file of weights"
    if path.stat().st_size > LARGEST:
        raise BadFile(path, wrong, advice)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"it looks like JSON, and reading it failed ({first_line(error)})", advice) from error
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadFile(path, wrong, advice)
    return weight_map
