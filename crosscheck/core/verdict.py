"""The verdict: all findings of one implementation on one problem."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crosscheck.core.finding import Finding, Outcome, worst
from crosscheck.core.verdict_text import findings_text


@dataclass(frozen=True)
class Verdict:
    """All findings of one implementation on one problem. `str(verdict)` gives them in words.

    A verdict is true in a condition only if it is "agree", so that `assert crosscheck.check(...)` fails for a wrong
    port.

    Attributes:
      findings: one per quantity, scope and precision check; outputs come before gradients.
      notes: sentences that a reader must know.
      cause: a likely cause of a disagreement; "" if there is none.
      diagnosis: the mistake by name, and the first wrong step and gate, if the pair is an LSTM.
      environment: versions, device and settings.
      not_shown: what the inputs of an agreeing pair cannot show, in words.

    Examples:
      >>> import numpy as np
      >>> import torch
      >>> import crosscheck
      >>> module = torch.nn.Linear(3, 5)
      >>> params = {name: p.detach().numpy() for name, p in module.named_parameters()}
      >>> without_bias = lambda params, x: x @ params["weight"].T
      >>> verdict = crosscheck.check(without_bias, module, params, (np.ones((2, 3)),))
      >>> bool(verdict), str(verdict.outcome), verdict.first.quantity
      (False, 'disagree', 'output 0')
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    cause: str = ""
    diagnosis: tuple[str, ...] = ()
    environment: dict[str, Any] = field(default_factory=dict)
    not_shown: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """The gravest outcome of all findings."""
        return worst(finding.final for finding in self.findings)

    @property
    def ok(self) -> bool:
        """Whether the outcome is AGREE."""
        return self.outcome is Outcome.AGREE

    def __bool__(self) -> bool:
        """Return ``ok``."""
        return self.ok

    @property
    def first(self) -> Finding | None:
        """The first finding that is as grave as the verdict, or None without findings.

        Outputs come before gradients, and float64 before float32.
        """
        return next((f for f in self.findings if f.final is self.outcome), None)

    def __str__(self) -> str:
        return findings_text(self.outcome, self.findings, self.notes, self.cause, self.diagnosis, self.not_shown)
