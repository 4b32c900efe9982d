"""The conclusions from a session: the commands to type, and the paragraphs for benchmarks/README.md."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from benchmarks.conclusions import sentences
from benchmarks.markdown import training_of
from benchmarks.result import Result, compared

ROOT = Path(__file__).parents[2]
RESULTS = "benchmarks/results"
UNMEASURED = "No GPU has been measured yet"


def commands(results: Mapping[str, Result], out: Path) -> list[str]:
    """Return the commands that follow from the tables, in the order in which they are typed.

    A line that begins with "#" says what the commands below it do. They run in the root of the repository.
    """
    files = worth_keeping(results)
    quoted = [shlex.quote(str(path)) for path in gpu_tests(ROOT)]
    lines = []
    if files:
        lines += ["# Copy the results. DIR is the folder where they lie now.", f"DIR={shlex.quote(str(out))}"]
        lines += [f'cp "$DIR"/{table}.json {name}.json' for table, name in files.items()]
        lines += ["# Print and plot them."]
        for table, name in files.items():
            lines.append(f"python -m benchmarks --from {name}.json --plot {name}.png")
            if has_brief(results[table]):
                lines.append(f"python -m benchmarks --from {name}.json --brief")
        lines += [
            "# Add the paragraphs of report.txt to the results in benchmarks/README.md. A test compares them.",
            "python -m pytest tests/docs/test_readme.py",
            "# Change what says that no GPU was measured.",
            f"grep -rn {shlex.quote(UNMEASURED)} README.md benchmarks/README.md",
        ]
    return [
        *lines,
        "# Run the tests that need a GPU, on the machine that has one.",
        f"JAX_PLATFORMS=cuda,cpu python3 -m pytest -m gpu {' '.join(quoted)}",
    ]


def worth_keeping(results: Mapping[str, Result]) -> dict[str, str]:
    """Return the tables to publish, each with the path of its file below `RESULTS`, without suffix.

    In each of these tables jax_lstm is right, and was timed together with another implementation.
    """
    kept = {
        table: result
        for table, result in results.items()
        if result.exit_code == 0 and any(not row.ours for row in compared(result.rows))
    }
    return {table: f"{RESULTS}/{device_slug(result)}-{table}" for table, result in kept.items()}


def device_slug(result: Result) -> str:
    """Return the device as a part of a file's name: "nvidia-h200" of "gpu (NVIDIA H200)"."""
    _, _, kind = str(result.settings.get("device", "unknown")).rpartition("(")
    return re.sub(r"[^a-z0-9]+", "-", kind.lower()).strip("-")


def has_brief(result: Result) -> bool:
    """Return whether --brief can print a table."""
    try:
        training_of(result)
    except ValueError:
        return False
    return True


def gpu_tests(root: Path) -> list[Path]:
    """Return the test files that have a test marked ``gpu``. Collecting the other files would cost time."""
    files = sorted((root / "tests").rglob("test_*.py"))
    return [path.relative_to(root) for path in files if "@pytest.mark.gpu" in path.read_text(encoding="utf-8")]


def paragraphs(results: Mapping[str, Result]) -> list[str]:
    """Return a paragraph per table for benchmarks/README.md, with the sentences that ``--from`` prints."""
    lines = []
    for table, name in worth_keeping(results).items():
        file = Path(name).name
        lines += [f"**[{file}.json](results/{file}.json)**: {table}.", ""]
        lines += ["\n>\n".join(f"> {sentence}" for sentence in sentences(results[table])), ""]
    return lines
