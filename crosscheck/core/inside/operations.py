"""Which operations round, and which round more than once: their measured errors in float64 in units of u = 2^-53.

`tests/crosscheck/core/inside/test_operations.py` measures them again with mpmath. A relative error counts beside an
absolute one, since near a zero of a function only the absolute error is small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

TORCH_ERRORS: Mapping[str, float] = {
    "fake_quantize_per_tensor_affine_cachemask": 1e9,  # the scale is a float32 number
    "hardsigmoid_backward": 3e8,  # it has 1/6 as a float32 number
    "polygamma": 5e6,
    "special_gammainc": 12.0,
    "special_log_ndtr": 30.0,
}
TORCH_FLOAT32_CONSTANTS: Mapping[str, float] = {"elu_backward": 1e9}  # if a constant such as alpha is not 1
JAX_ERRORS: Mapping[str, float] = {"erfc": 70.0, "erf_inv": 30.0, "atanh": 150.0, "igamma": 12.0, "log_ndtr": 2e6}
ABSOLUTE: Mapping[str, float] = {"lgamma": 2.0, "digamma": 2.0}  # of both frameworks

KNOWN = 1 / 16  # of K = 64 in float64: an error that was measured counts 4 times
IN_FLOAT64 = 2.0**-30  # errors below this size stand for float64's rounding, in which the tables were measured


def roundings(table: Mapping[str, float], name: str, size: float) -> float:
    """Return how many roundings an operation counts as, if errors have that size. The tables hold for float64 only."""
    return max(1.0, KNOWN * table.get(name, 1.0)) if size < IN_FLOAT64 else 1.0


def contraction(terms: int) -> float:
    """Return how many roundings a sum of products over ``terms`` is worth.

    A product of a vector and a matrix may add its terms one after the other, in both frameworks. The error then grows
    with the square root of their number.
    """
    return max(1.0, math.sqrt(terms) / 4)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


EXACT_IN_TORCH = _words(
    """
    _index_put_impl_ _local_scalar_dense _reshape_alias _to_copy _unsafe_view abs alias amax amin arange argmax
    argmin argsort as_strided bernoulli_ bitwise_not bucketize cat ceil clamp clamp_max clamp_max_ clamp_min
    clamp_min_ clone constant_pad_nd copy copy_ cummax cummin detach diag diagonal_copy embedding empty empty_like
    empty_strided expand eye fill fill_ flip floor frac full full_like gather hardtanh hardtanh_ imag index
    index_copy index_copy_ index_put index_put_ index_select lift_fresh linspace masked_fill masked_fill_
    masked_scatter masked_select max max_pool2d_with_indices max_pool3d_with_indices maximum median min minimum
    narrow_copy neg neg_ new_empty new_empty_strided new_full new_ones new_zeros nonzero one_hot ones ones_like
    permute_copy pixel_shuffle pixel_unshuffle positive real reflection_pad1d reflection_pad2d reflection_pad3d relu
    relu_ repeat replication_pad1d replication_pad2d replication_pad3d reshape resize_ roll round scalar_tensor
    scatter select_backward select_scatter set_ sgn sign slice_backward slice_scatter sort split_copy stack
    threshold threshold_backward topk tril tril_ triu triu_ trunc unfold_copy unique_consecutive unique_dim
    upsample_nearest1d upsample_nearest2d upsample_nearest3d view_copy where zero zero_ zeros zeros_like
    """
)  # they move, choose or compare numbers, or make constants
EXACT_IN_JAX = _words(
    """
    abs and argmax argmin bitcast_convert_type broadcast_in_dim ceil cholesky_update clamp complex concatenate conj
    convert_element_type copy copy_p cummax cummin device_put dynamic_slice dynamic_update_slice expand_dims floor
    gather imag iota max min neg pad real reduce_max reduce_min reduce_precision reshape rev round scatter
    select_and_gather_add select_n sharding_constraint sign slice sort split squeeze stop_gradient top_k transpose
    """
)
