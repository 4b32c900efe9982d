"""What is checked in a fresh environment with the installed package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from archives import project
from environments import Environment, packages_of
from steps import Failed, Steps, run

PROGRAMS = Path(__file__).parent / "programs"
OWN_NODE = {"PYRIGHT_PYTHON_GLOBAL_NODE": "1"}  # pyright runs with the node of the machine
MISSING = "which is not installed: pip install 'jax-lstm[crosscheck]'\n"
MISSING_TORCH = f"crosscheck: this command needs torch, {MISSING}"


def versions_after_a_run(environment: Environment, kernels: bool) -> dict[str, str]:
    """Run both Flax modules, and return the versions of the packages, by the columns of the table."""
    printed = environment.run(PROGRAMS / "installed_jax_lstm.py", "kernels" if kernels else "scan")
    versions: dict[str, str] = json.loads(printed)
    return versions


def has_node() -> bool:
    """Return whether pyright can run here."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def check_crosscheck(environment: Environment) -> None:
    """Run one case of the standard suite."""
    printed = run([environment.bin / "crosscheck", "--case", "notebook"], cwd=environment.empty)
    if not printed.rstrip().endswith(": agree"):
        raise Failed(f"crosscheck --case notebook prints\n{printed}")


def check_message(environment: Environment, message: str) -> None:
    """See that ``crosscheck`` ends with exit code 2 and one line, which ends with the message."""
    printed = run([environment.bin / "crosscheck", "--case", "notebook"], cwd=environment.empty, code=2)
    if not printed.startswith("crosscheck: ") or not printed.endswith(message) or printed.count("\n") != 1:
        raise Failed(f"crosscheck without torch prints\n{printed}")


def check_types(steps: Steps, where: str, environment: Environment, tools: Environment, source: Path) -> None:
    """See that mypy and pyright find the types of the package, from a file outside the tree.

    The file has assert_type on what our functions return, so that a checker which does not find the package fails.
    """
    folder = environment.empty / f"typed-{where.replace(' ', '-')}"  # one each, so that mypy has no cache of another
    folder.mkdir()
    shutil.copy(source / "tests" / "support" / "typed_user.py", folder)
    with steps.step(where, "mypy finds the types"):
        options = ["--config-file=", "--strict", "--follow-imports=silent"]
        python = f"--python-executable={environment.python}"
        run([tools.python, "-m", "mypy", *options, python, "typed_user.py"], cwd=folder)
    if not has_node():
        steps.note(where, "the types that pyright finds, since node and npm are not here")
        return
    with steps.step(where, "pyright finds the types"):
        settings = {"typeCheckingMode": "strict", "reportUnknownMemberType": False, "reportUnknownArgumentType": False}
        (folder / "pyrightconfig.json").write_text(json.dumps(settings))
        python = f"--pythonpath={environment.python}"
        run([tools.bin / "pyright", python, "typed_user.py"], cwd=folder, variables=OWN_NODE)


def check_extras(
    steps: Steps,
    where: str,
    environment: Environment,
    requirement: Callable[[str], str],
    constraints: list[str] | None,
) -> None:
    """See that each extra can be installed.

    Args:
      steps: counts them.
      where: the name of the environment.
      environment: where they would be installed.
      requirement: gives the package with an extra.
      constraints: options for pip that choose a release of torch. None skips the extras that bring torch, since any
        release may come then, with gigabytes of CUDA.
    """
    for extra in project()["optional-dependencies"]:
        if constraints is None and "torch" in packages_of(extra):
            steps.note(where, f"the extra {extra}: it brings torch, and constraints.txt is for the oldest Python")
            continue
        with steps.step(where, f"the extra {extra} can be installed"):
            environment.resolve(*(constraints or []), requirement(extra))
