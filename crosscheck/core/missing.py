"""Which packages are installed, and the message about a missing one. Imports only Python's own library."""

from __future__ import annotations

PACKAGES = {  # the module that is imported -> the package that brings it
    "flax": "flax",
    "jax": "jax",
    "jaxlib": "jaxlib",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "ml_dtypes": "ml_dtypes",
    "numpy": "numpy",
    "optax": "optax",
    "orbax": "orbax-checkpoint",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "torch": "torch",
    "typer": "typer",
}
INSTALL = "pip install 'jax-lstm[crosscheck]'"


NOT_INSTALLED = "not installed"


def installed_version(package: str) -> str:
    """Return the version of a distribution, or "not installed"."""
    from importlib.metadata import PackageNotFoundError, version  # slow to import; the command must start at once

    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED


def what_is_missing(error: ModuleNotFoundError, needs: str = "") -> str | None:
    """Return one line that names the missing package and the command that installs it.

    Args:
      error: the error of the import.
      needs: what needs the package.

    Returns:
      The line. None if the module belongs to none of PACKAGES. Then a module of ours is missing, which is a bug.
    """
    package = PACKAGES.get((error.name or "").partition(".")[0])
    if package is None:
        return None
    return f"{needs or 'this command'} needs {package}, which is not installed: {INSTALL}"
