"""Every script of docs/findings still shows the fault of its row. If a new version fixes it, the row must change."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests import ROOT
from tests.support import xla_flags

FOLDER = ROOT / "docs" / "findings"
TABLE = (FOLDER / "README.md").read_text().split("## Looked at")[0]
ROWS = {match[2]: match[1] for match in re.finditer(r"^\| .+? \| (.+?) \| \[(\w+\.py)\]", TABLE, re.MULTILINE)}
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))
OUR_IMPORT = re.compile(r"^\s*(import|from) (jax_lstm|torch_ref|crosscheck|tests)\b", re.MULTILINE)


def test_every_script_has_a_row_and_every_row_a_script():
    assert sorted(ROWS) == SCRIPTS
    assert SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_still_shows_the_fault(name):
    package, _, version_in_row = ROWS[name].partition(" ")
    try:
        installed = version(package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is of the extra 'libraries', which is not installed")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": xla_flags.AS_USERS_COMPILE}
    command = [sys.executable, "-W", "ignore", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert f"{package} {installed}" in done.stdout
    assert done.returncode == 0, (
        f"{package} {installed} no longer does what docs/findings says of {version_in_row}. Write in its README which "
        f"version fixed it, and remove the script:\n{done.stdout}"
    )
    assert done.stdout.rstrip().endswith("seen")
    assert re.fullmatch(r"[\d.]+", version_in_row)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_imports_none_of_our_packages(name):
    text = (FOLDER / name).read_text()
    assert not OUR_IMPORT.search(text)
    assert text.startswith('"""')
    for word in ("Documented: ", "Seen: ", "Why it matters: "):
        assert word in text
