"""Executes docs/notebook.ipynb, and writes it back with its outputs:

    python -m tests.support.notebook

Run it after each change of the notebook, and read the outputs. What differs from run to run, or from machine to
machine, is not written: times of execution, the path and version of the kernel.
"""

from __future__ import annotations

import os
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests import ROOT
from tests.support import xla_flags

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
SECONDS = 600  # for one cell, on a busy machine


def read(path: Path = NOTEBOOK) -> NotebookNode:
    """Return a notebook."""
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def execute(notebook: NotebookNode, folder: Path, flags: str = "") -> NotebookNode:
    """Return the notebook with the outputs of a clean kernel, stripped.

    Args:
      notebook: The notebook. It does not change.
      folder: The working directory.
      flags: XLA's flags.

    Raises:
      nbclient.exceptions.CellExecutionError: A cell raised.
    """
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    executed = _copy(notebook)
    client = NotebookClient(
        executed,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],  # the kernel warns that its connection is not encrypted; it is local
    )
    client.execute(env=environment)
    return strip(executed)


def strip(notebook: NotebookNode) -> NotebookNode:
    """Return the notebook without what differs from run to run. Adjacent pieces of one stream become one output."""
    stripped = _copy(notebook)
    stripped.metadata = nbformat.from_dict(METADATA)
    for cell in stripped.cells:
        cell.metadata = NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return stripped


def printed(output: NotebookNode) -> str:
    """Return the text of an output: that of a stream, or the plain text of a display."""
    return str(output.text if output.output_type == "stream" else output.data.get("text/plain", ""))


class Images(HTMLParser):
    """Collects the attributes of all images of some HTML, in ``found``."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Keep the attributes of an image."""
        if tag == "img":
            self.found.append(dict(attributes))


def _copy(notebook: NotebookNode) -> NotebookNode:
    return nbformat.reads(nbformat.writes(notebook), as_version=4)


def _joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join a stream's pieces: where a kernel divides what a cell prints is a matter of time."""
    joined: list[NotebookNode] = []
    for output in outputs:
        before = joined[-1] if joined else None
        if before is not None and output.output_type == "stream" and before.get("name") == output.name:
            before.text += output.text
        else:
            joined.append(output)
    return joined


def main() -> int:
    """Execute the notebook and write it back, as XLA compiles for users."""
    with tempfile.TemporaryDirectory() as folder:
        executed = execute(read(), Path(folder), xla_flags.AS_USERS_COMPILE)
    nbformat.write(executed, NOTEBOOK)
    return 0


if __name__ == "__main__":
    sys.exit(main())
