"""How many bundles of instructions TPU's compiler schedules for a program, read from the files that it dumps.

A TPU issues one bundle per cycle. Each bundle is counted as often as the loops around it run. Both branches of a
condition are counted. The count leaves out the time to wait for transfers. So it compares two programs of one compiler,
and is not a time. Unlike the estimated cycles in the program's text, it also covers the inside of a Pallas kernel.

The compiler writes one file per part of a program. The parts are its fusions and kernels, and the top level, which
calls them. The format of these files depends on the compiler's version. Any other format raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TOP = "TLP"  # the part that is the top level
DELAY = 4  # a branch takes effect after this many more bundles
_FILE = re.compile(r"\d+-(?P<part>.+)-\d\d-packed-bundles-post-ra\.txt")
_BUNDLE = re.compile(r"^\s*(?:0x[0-9a-f]+|0)\s+(?:(?:LB|LH|LE|PB|PF|CT|BB)\s*)?:\s*>*\s*(?:>\s*)*\{(?P<text>.*)$")
_BRANCH = re.compile(r"sbr\.rel \(!?%(?P<predicate>p\d+)_p?\d+\) target bundleno = (?P<target>\d+)")
_CALL = re.compile(r"inlined_call.*?/\* %(?P<part>\S+) = ")
_PIPELINE = "iteration index, stage"  # in the loop over a kernel's blocks, which has two more iterations than blocks


class Span(NamedTuple):
    """A loop of a part: its first and last bundle, and the values that give the number of its iterations."""

    first: int
    last: int
    predicate: str

    def holds(self, bundle: int) -> bool:
        """Return whether the loop runs a bundle."""
        return self.first <= bundle <= self.last


def count_bundles(folder: Path, runs_at_top: Sequence[int]) -> int:
    """Return the bundles that a program issues.

    Args:
      folder: the files that the compiler dumped for this program only.
      runs_at_top: how often each loop of the top level runs in all, in the order of the program's text.

    Raises:
      ValueError: the files are not there, or are not of the expected form.
    """
    parts = {found["part"]: path for path in sorted(folder.iterdir()) if (found := _FILE.fullmatch(path.name))}
    if TOP not in parts:
        raise ValueError(
            f"the compiler has dumped no top level, {TOP}, to {folder}; it dumped {len(parts)} other parts."
        )
    bundles = {part: read_bundles(path.read_text(encoding="utf-8")) for part, path in parts.items()}
    same = _same_parts(folder)
    top = bundles[TOP]
    spans = find_loops(top)
    if len(spans) != len(runs_at_top):
        raise ValueError(f"the top level must have {len(runs_at_top)} loops, as the program's text; got {len(spans)}.")
    runs = dict(zip(spans, runs_at_top, strict=True))
    total = 0
    for n, bundle in enumerate(top):
        around = [span for span in spans if span.holds(n)]
        times = runs[min(around, key=lambda span: span.last - span.first)] if around else 1
        total += times
        for call in _CALL.finditer(bundle):
            total += times * bundles_of_part(bundles[_dumped(call["part"], bundles, same)])
    return total


def bundles_of_part(bundles: Sequence[str]) -> int:
    """Return the bundles that one call of a part issues."""
    spans = find_loops(bundles)
    runs = {span: _runs(bundles, span) for span in spans}
    total = 0
    for n in range(len(bundles)):
        times = 1
        for span in spans:
            times *= runs[span] if span.holds(n) else 1
        total += times
    return total


def read_bundles(text: str) -> list[str]:
    """Return the instructions of each bundle of a dumped part."""
    return [found["text"] for line in text.splitlines() if (found := _BUNDLE.match(line))]


def find_loops(bundles: Sequence[str]) -> list[Span]:
    """Return the loops, each of which is a backward branch. An outer loop comes before its inner ones."""
    spans = [
        Span(int(branch["target"]), min(n + DELAY, len(bundles) - 1), branch["predicate"])
        for n, bundle in enumerate(bundles)
        for branch in _BRANCH.finditer(bundle)
        if int(branch["target"]) <= n
    ]
    return sorted(spans, key=lambda span: (span.first, -span.last))


def _runs(bundles: Sequence[str], span: Span) -> int:
    """Return how often a loop of a part runs: the limit of its counter divided by the counter's step.

    A loop whose end depends on a value in memory counts once.
    """
    body = bundles[span.first : span.last + 1]
    compared = _first(
        body, rf"%{span.predicate}_p?\d+ = scmp\.\w+\.s32\.totalorder %(?P<counter>s\d+)\S*, (?P<limit>\d+)"
    )
    if compared is None:
        return 1
    stepped = _first(body, rf"%{compared['counter']}_s?\w* = sadd\.s32 (?P<step>\d+), ")
    runs = int(compared["limit"]) // (int(stepped["step"]) if stepped else 1)
    return max(1, runs - 2 if any(_PIPELINE in bundle for bundle in body[:2]) else runs)


def _first(bundles: Sequence[str], pattern: str) -> re.Match[str] | None:
    return next((found for bundle in bundles if (found := re.search(pattern, bundle))), None)


def _same_parts(folder: Path) -> list[set[str]]:
    """Return the sets of parts that have the same code. The compiler dumps only one part per set."""
    (path,) = sorted(folder.glob(f"*-{TOP}-00-deduplication-map.txt"))[-1:]
    return list(_read_map(path.read_text(encoding="utf-8")))


def _read_map(text: str) -> Iterator[set[str]]:
    for entry in text.split("key:")[1:]:
        key, *rest = entry.splitlines()
        yield {key.strip(), *(line.strip() for line in rest if line.startswith("  "))}


def _dumped(part: str, bundles: Mapping[str, object], same: Sequence[set[str]]) -> str:
    """Return the dumped part that is the code of ``part``."""
    alike = {part}.union(*(group for group in same if part in group))
    found = sorted(name for name in alike if name in bundles)
    if not found:
        raise ValueError(f"the compiler has dumped no part {part}, which the top level calls.")
    return part if part in found else found[0]
