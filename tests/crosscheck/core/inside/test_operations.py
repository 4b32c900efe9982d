"""The table of inexact operations is measured again, with mpmath."""

from __future__ import annotations

from tests.support.requirements import need

torch = need("torch")

import jax
import numpy as np
import pytest

from crosscheck.core.inside.operations import JAX_ERRORS, TORCH_ERRORS, contraction

mpmath = pytest.importorskip("mpmath")

U = 2.0**-53
POSITIVE = np.concatenate(
    [np.random.default_rng(0).uniform(0.01, 10, 200), 10 ** np.random.default_rng(1).uniform(-6, 2, 200)]
)
INSIDE = np.random.default_rng(2).uniform(-0.99, 0.99, 200)


def roundings(got, exact, at):
    with mpmath.workdps(40):
        truth = np.array([float(exact(mpmath.mpf(float(a)))) for a in at])
    got = np.asarray(got, np.float64)
    return float(np.max(np.abs(got - truth) / np.abs(truth)) / U)


def gradient_of_hardsigmoid(a):
    leaf = torch.tensor(a, requires_grad=True)
    return torch.autograd.grad(torch.nn.functional.hardsigmoid(leaf).sum(), leaf)[0].numpy()


TORCH = {
    "polygamma": (lambda a: torch.polygamma(1, torch.tensor(a)), lambda v: mpmath.psi(1, v), POSITIVE),
    "special_log_ndtr": (
        lambda a: torch.special.log_ndtr(torch.tensor(a)),
        lambda v: mpmath.log(mpmath.ncdf(v)),
        5 * INSIDE,
    ),
    "special_gammainc": (
        lambda a: torch.special.gammainc(torch.full(a.shape, 2.5, dtype=torch.float64), torch.tensor(a)),
        lambda v: mpmath.gammainc(mpmath.mpf(2.5), 0, v, regularized=True),
        POSITIVE[:100],
    ),
    "fake_quantize_per_tensor_affine_cachemask": (
        lambda a: torch.fake_quantize_per_tensor_affine(torch.tensor(a), 0.3, 0, -100, 100),
        lambda v: mpmath.nint(v / mpmath.mpf(0.3)) * mpmath.mpf(0.3),
        POSITIVE[:100] + 1,
    ),
    "hardsigmoid_backward": (gradient_of_hardsigmoid, lambda v: mpmath.mpf(1) / 6, INSIDE),
}
JAX = {
    "erfc": (jax.lax.erfc, mpmath.erfc, POSITIVE[:200]),
    "erf_inv": (jax.lax.erf_inv, mpmath.erfinv, INSIDE),
    "atanh": (jax.numpy.arctanh, mpmath.atanh, INSIDE),
    "log_ndtr": (jax.scipy.special.log_ndtr, lambda v: mpmath.log(mpmath.ncdf(v)), 5 * INSIDE),
    "igamma": (
        lambda a: jax.scipy.special.gammainc(2.5, a),
        lambda v: mpmath.gammainc(mpmath.mpf(2.5), 0, v, regularized=True),
        POSITIVE[:100],
    ),
}


@pytest.mark.parametrize(("name", "table", "measured"), [
    *((name, TORCH_ERRORS, TORCH) for name in TORCH_ERRORS),
    *((name, JAX_ERRORS, JAX) for name in JAX_ERRORS),
])  # fmt: skip
def test_an_error_in_the_table_is_no_less_than_the_measured_one_and_not_far_above(name, table, measured):
    fn, exact, at = measured[name]
    error = roundings(fn(at), exact, at)
    assert error <= table[name]
    assert error >= table[name] / 100, f"{name} errs by only {error:.3g} roundings here: lower its entry"


def test_short_sums_of_products_are_one_rounding():
    assert contraction(4) == contraction(16) == 1.0
    assert contraction(4096) == 16.0
