"""Proves that a JAX function and a torch module are the same function, gradients included, or says where they part."""

from crosscheck.check import assert_agree, check
from crosscheck.finding import CouldNotRun, Finding, Outcome
from crosscheck.verdict import Verdict

__all__ = ["CouldNotRun", "Finding", "Outcome", "Verdict", "assert_agree", "check"]
