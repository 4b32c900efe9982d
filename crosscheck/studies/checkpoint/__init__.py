"""LSTMs in checkpoint files: read the arrays, find the networks, make a case of each, export them for Flax.

``files`` tells the format of a file by its content. ``formats``, ``torch_files`` and ``keras_and_onnx`` read the
formats to a `Checkpoint`, ``networks`` finds the LSTMs in it (``stored_forms`` folds weights that are stored in
another form), and ``case`` and ``flax_export`` use what was found. No file here may import or call what a checkpoint
names, or take memory that a checkpoint only claims.
"""

from crosscheck.studies.checkpoint.case import case_of
from crosscheck.studies.checkpoint.contents import Checkpoint, Skipped
from crosscheck.studies.checkpoint.errors import BadFile, CannotExport
from crosscheck.studies.checkpoint.files import read_checkpoint
from crosscheck.studies.checkpoint.flax_export import export
from crosscheck.studies.checkpoint.networks import FoundLSTM, find_lstms, find_networks

__all__ = [
    "BadFile",
    "CannotExport",
    "Checkpoint",
    "FoundLSTM",
    "Skipped",
    "case_of",
    "export",
    "find_lstms",
    "find_networks",
    "read_checkpoint",
]
