"""LSTMs in checkpoint files: read the arrays, find the networks, make a case of each, export them for Flax.

``read_arrays`` (formats, tensors) -> ``look`` / ``find_lstms`` -> ``case_of``, ``export``. Nothing here runs code from
a file: what would need that is refused.
"""

from crosscheck.checkpoint.case import case_of
from crosscheck.checkpoint.errors import BadFile, CannotExport
from crosscheck.checkpoint.export import export
from crosscheck.checkpoint.find import Found, Skipped, find_lstms, look
from crosscheck.checkpoint.read import read_arrays

__all__ = ["BadFile", "CannotExport", "Found", "Skipped", "case_of", "export", "find_lstms", "look", "read_arrays"]
