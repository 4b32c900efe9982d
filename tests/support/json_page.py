"""Print docs/json.md from the schema's descriptions: ``python -m tests.support.json_page > docs/json.md``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests import ROOT

SCHEMA = ROOT / "crosscheck" / "report" / "schema.json"
INTRODUCTION = """\
# JSON

This page says what every key of a `--json` file means and when the format changes. It is for everyone who reads the
results of `crosscheck` or `python -m benchmarks` with a program.

`--json FILE` writes the results of a command to a file. The file is written whole or not at all. The package contains a
[JSON Schema](../crosscheck/report/schema.json) (draft 2020-12) of these files, and this page is made from it:

```python
import importlib.resources, json

schema = json.loads((importlib.resources.files("crosscheck.report") / "schema.json").read_text(encoding="utf-8"))
print(schema["title"])
print(*schema["$defs"]["finding"]["required"][:6])
```

```text
Files that crosscheck writes with --json
quantity check scope verdict error limit
```

After `pip install jsonschema`, `jsonschema.validate(content, schema)` raises an exception if the content of a file is
not as documented.

## Rules

- Every file begins with `schema_version` and `command`. The version is an integer, now 1. It grows by one if a key is
  removed, is renamed or changes its meaning. It does not grow if a key is added. So your program should ignore keys
  that it does not know. The schema allows exactly the keys of its own release.
- Only `python -m benchmarks --from` reads such a file. It refuses a newer version with an error of one line. It also
  refuses a file without `schema_version`, which an earlier state of this project wrote: measure again.
- If a key may be left out, its meaning says so. Every other key is always there.
- The meaning of a boolean key is a statement. The key is true if the statement holds.
- JSON has no NaN and no infinity. A key of the type [number](#number), with a link, has the strings `"nan"`, `"inf"`
  and `"-inf"` instead. A key of the type "number", without a link, is finite.
- A map is an object whose keys are names, such as the names of cases. Its meaning says which, for example "By case:".
- The same command gives the same file each time, except for dates and times.
- Norms, errors and limits have no unit. Times are in seconds, and memory is in bytes.
"""


def page() -> str:
    """Return the whole page."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = dict(schema["$defs"])
    commands = [parts.pop(branch["$ref"].rpartition("/")[2]) for branch in schema["oneOf"]]
    types = _Types(schema["$defs"])
    sections = [INTRODUCTION]
    for title, definitions in (("Commands", commands), ("Parts", parts.values())):
        sections += [f"## {title}\n", *("\n".join(_section(definition, types)) for definition in definitions)]
    return "\n".join(sections)


class _Types:
    """The types of a schema in words, with links to the sections of the page."""

    def __init__(self, definitions: Mapping[str, Any]):
        self._titles = {f"#/$defs/{name}": definition["title"] for name, definition in definitions.items()}

    def words(self, schema: Mapping[str, Any]) -> str:
        match schema:
            case {"$ref": target}:
                title = self._titles[target]
                return f"[{title}](#{title.lower().replace(' ', '-')})"
            case {"const": value}:
                return f"`{json.dumps(value)}`"
            case {"enum": values}:
                return " or ".join(f"`{json.dumps(value)}`" for value in values)
            case {"anyOf": choices}:
                return ", or ".join(map(self.words, choices))
            case {"type": [*names]}:
                return ", or ".join(self.words(schema | {"type": name}) for name in names)
            case {"type": "array", "prefixItems": items}:
                return f"array of {len(items)}: {', '.join(map(self.words, items))}"
            case {"type": "array", "items": item}:
                return f"array of {self.words(item)}"
            case {"type": "object", "additionalProperties": value}:
                return f"map to {self.words(value)}"
            case {"type": str(name)}:
                return name
        raise AssertionError(f"no words for {schema}")


def _section(definition: Mapping[str, Any], types: _Types) -> Iterator[str]:
    yield f"### {definition['title']}\n"
    yield f"{definition['description']}\n"
    if "properties" in definition:
        yield from ("| key | type | meaning |", "|---|---|---|")
        for name, found in definition["properties"].items():
            yield f"| `{name}` | {types.words(found)} | {found['description']} |"
        yield ""
    elif "oneOf" in definition:
        yield from ("| value | meaning |", "|---|---|")
        for choice in definition["oneOf"]:
            yield f"| `{json.dumps(choice['const'])}` | {choice['description']} |"
        yield ""


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m tests.support.json_page", description="Print docs/json.md.").parse_args()
    print(page(), end="")
