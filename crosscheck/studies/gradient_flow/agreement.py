"""Whether both frameworks measure the same: every quantity at every step, within limits that are measured.

Norms from 1e-1000 to 1e+1000 are compared as numbers, not as logarithms. Each is divided by the power of two of the
truth, which leaves a number in [1, 2). Therefore `crosscheck.core.criterion` applies unchanged: the float64 check with
K = 64, and errors relative to the norm. This study runs in float64 only. Perturbations of 2^-40 measure κ. They also
move the logarithms, which are rounded themselves. A step at which they have grown past 1e-3 is not decided. A
quantity that is zero at all steps, such as the smallest singular value under relu, is compared by where it is zero.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.comparison import compare
from crosscheck.core.criterion import CRITERIA
from crosscheck.core.environment import describe_environment
from crosscheck.core.problem import Problem, Quantity, Results
from crosscheck.core.reference import measure_reference
from crosscheck.core.slices import TIME, Slicing
from crosscheck.core.verdict import Verdict
from crosscheck.studies.gradient_flow.implementations import ADJOINT, STEP, run_in_torch, thinned
from crosscheck.studies.gradient_flow.network import FlowNetwork

PERTURBATION = 2.0**-40
CRITERION = replace(CRITERIA["float64"], chaos=PERTURBATION)  # a perturbation that grew past 1e-3 measures no condition


def flow_problem(network: FlowNetwork) -> Problem:
    """Return the network as a problem whose inputs are x and the cotangent, so that both are perturbed."""
    return Problem(network.params, (network.x, network.dh), ("x", "dh"), (), (), (), network.steps)


def cross_check(network: FlowNetwork, logs: Results, every: int, seed: int = 0) -> Verdict:
    """Return the verdict on what JAX measured against torch_ref.

    Args:
      network: the network.
      logs: binary logarithms as `run_in_jax` returns them.
      every: singular values are compared at every such step.
      seed: the seed of the perturbations.
    """
    problem = flow_problem(network)
    truth = run_in_torch(network, problem, every)
    signs = np.random.default_rng([seed, 0x10])

    def run(moved: Problem) -> Results:
        if moved is problem:
            return _numbers(truth, truth)
        logs = run_in_torch(network, moved, every)
        logs = {name: a * (1 + PERTURBATION * signs.choice((-1.0, 1.0), a.shape)) for name, a in logs.items()}
        return _numbers(logs, truth)

    problem = replace(problem, slicings={name: _by_time(name, a.size, every) for name, a in truth.items()})
    reference = measure_reference(problem, run, (), seed, PERTURBATION)
    findings = compare(problem, reference, _numbers(thinned(logs, every), truth), CRITERION)
    return Verdict(tuple(findings), environment=describe_environment())


def _by_time(name: Quantity, size: int, every: int) -> Slicing:
    """Return slices named by their t: J_t and ds_T/ds_t are not there at every t."""
    if name in ADJOINT:
        return Slicing(0, TIME)
    return Slicing(0, TIME, tuple(str(n * every + (name in STEP)) for n in range(size)))


def _numbers(logs: Results, truth: Results) -> Results:
    """Return norms over the truth's powers of two. If the truth is zero at all steps, return which steps are zero."""
    numbers = dict(logs)
    for name, log2 in truth.items():
        if name not in logs or logs[name].shape != log2.shape:
            continue  # `compare` refuses them by name or by shape
        if np.all(np.isneginf(log2)):
            numbers[name] = np.isneginf(logs[name])
        else:
            with np.errstate(over="ignore"):
                numbers[name] = np.exp2(logs[name] - np.where(np.isfinite(log2), np.floor(log2), 0.0))
    return numbers
