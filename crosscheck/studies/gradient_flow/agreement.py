"""Do both frameworks measure the same? Every quantity at every step, within limits that the problem's condition sets.

Norms from 1e-1000 to 1e+1000 are compared as the numbers which they are and not as logarithms: each is divided by the
power of two of the truth's own, which leaves a number in [1, 2). So `crosscheck.core.criterion` holds as it
stands, lane A with K = 64, and an error is relative to the norm. There is no float32 here to decide anything in: κ is
measured by perturbations of 2^-40, of the logarithms too, which are rounded themselves, and nothing is decided where
these have grown past 1e-3. A quantity that is zero at all steps, such as the smallest singular value under relu, is
compared by where it is zero.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crosscheck.core.criterion import CRITERIA, compare
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
    """The network as a problem whose inputs are x and the cotangent, so that both are perturbed."""
    return Problem(network.params, (network.x, network.dh), ("x", "dh"), (), (), (), network.steps)


def cross_check(network: FlowNetwork, logs: Results, every: int, seed: int = 0) -> Verdict:
    """The verdict on the logarithms that the JAX side measured, beside those that torch_ref measures."""
    problem = flow_problem(network)
    truth = run_in_torch(network, problem, every)
    powers = {name: np.where(np.isfinite(a), np.floor(a), 0.0) for name, a in truth.items()}

    def numbers(logs: Results) -> Results:
        return {name: _numbers(a, powers.get(name), truth.get(name)) for name, a in logs.items()}

    signs = np.random.default_rng([seed, 0x10])

    def run(moved: Problem) -> Results:
        if moved is problem:
            return numbers(truth)
        logs = run_in_torch(network, moved, every)
        return numbers({name: a * (1 + PERTURBATION * signs.choice((-1.0, 1.0), a.shape)) for name, a in logs.items()})

    problem = replace(problem, slicings={name: _by_time(name, a.size, every) for name, a in truth.items()})
    reference = measure_reference(problem, run, (), seed, PERTURBATION)
    findings = compare(problem, reference, numbers(thinned(logs, every)), CRITERION)
    return Verdict(tuple(findings), environment=describe_environment())


def _by_time(name: Quantity, size: int, every: int) -> Slicing:
    """Slices under the t that they belong to: of J_t and ds_T/ds_t not every one is there."""
    if name in ADJOINT:
        return Slicing(0, TIME)
    return Slicing(0, TIME, tuple(str(n * every + (name in STEP)) for n in range(size)))


def _numbers(logs: np.ndarray, powers: np.ndarray | None, truth: np.ndarray | None) -> np.ndarray:
    """2**(logs - powers); where the truth is zero throughout, which are zero."""
    if powers is None or truth is None or logs.shape != powers.shape:
        return logs  # refused by name or by shape
    if np.all(np.isneginf(truth)):
        return np.isneginf(logs)
    with np.errstate(over="ignore"):
        return np.exp2(logs - powers)
