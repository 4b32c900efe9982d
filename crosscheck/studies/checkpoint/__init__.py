"""LSTMs in checkpoint files: read the arrays, find the networks, make a case of each, export them for Flax.

``read_checkpoint`` (formats, pickles, tensors) -> ``look`` / ``find_lstms`` (fold) -> ``case_of``, ``export``. Nothing
here imports or calls what a file names.
"""

from crosscheck.studies.checkpoint.case import case_of
from crosscheck.studies.checkpoint.errors import BadFile, CannotExport
from crosscheck.studies.checkpoint.export import export
from crosscheck.studies.checkpoint.find import Found, Skipped, find_lstms, look
from crosscheck.studies.checkpoint.flat import Checkpoint
from crosscheck.studies.checkpoint.read import read_arrays, read_checkpoint

__all__ = [
    "BadFile",
    "CannotExport",
    "Checkpoint",
    "Found",
    "Skipped",
    "case_of",
    "export",
    "find_lstms",
    "look",
    "read_arrays",
    "read_checkpoint",
]
