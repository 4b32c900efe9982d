"""Convolutions of one, two and three axes, transposed, grouped, depthwise, causal and padded ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from crosscheck.models.building_blocks import Params
from crosscheck.models.changing import around, options, other_params, other_port
from crosscheck.models.drawing import Rng, made, numbers, one_of, sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair

Conv1d = torch.nn.Conv1d


def convolve(params: Params, name: str, x: Any, **how: Any) -> Any:
    """Return the convolution ``name`` of a torch module: ``[B, C, *spatial]`` to ``[B, out, *spatial]``.

    Args:
      params: parameters by name.
      name: the name of the layer, with a point at its end; "" for the module itself.
      x: the input.
      how: ``stride``, ``padding``, ``dilation`` and ``groups``, the first three one number for all axes.
    """
    w, n = params[f"{name}weight"], x.ndim - 2
    y = lax.conv_general_dilated(
        x,
        w,
        (how.get("stride", 1),) * n,
        [(how.get("padding", 0),) * 2] * n,
        rhs_dilation=(how.get("dilation", 1),) * n,
        dimension_numbers=("NC" + "DHW"[3 - n :], "OI" + "DHW"[3 - n :], "NC" + "DHW"[3 - n :]),
        feature_group_count=how.get("groups", 1),
    )
    bias = params.get(f"{name}bias")
    return y if bias is None else y + bias.reshape(-1, *(1,) * n)


def _plain(params: Params, x: Any, *, how: dict[str, int]) -> Any:
    return convolve(params, "", x, **how)


def _draw_conv2d(rng: Rng) -> Drawn:
    b, c, out, h, w = sizes(rng, 5, low=2, high=10)
    groups = one_of(rng, 1, 1, 2, 3)
    how: dict[str, Any] = {
        "stride": one_of(rng, 1, 2, 3),
        "padding": one_of(rng, 0, 1, 2),
        "dilation": one_of(rng, 1, 2),
        "groups": groups,
    }
    kernel, bias = one_of(rng, (2, 3), (3, 2), (3, 3)), one_of(rng, True, False)
    module = made(rng, lambda: torch.nn.Conv2d(c * groups, out * groups, kernel, bias=bias, **how))
    return Drawn(partial(_plain, how=how), module, (numbers(rng, b, c * groups, h + 5, w + 5),))


def _draw_conv3d(rng: Rng) -> Drawn:
    b, c, out = sizes(rng, 3, high=4)
    how: dict[str, Any] = {"stride": one_of(rng, 1, 2), "padding": one_of(rng, 0, 1)}
    module = made(rng, lambda: torch.nn.Conv3d(c, out, 3, **how))
    return Drawn(partial(_plain, how=how), module, (numbers(rng, b, c, *sizes(rng, 3, low=4, high=7)),))


def _linen(params: Params, x: Any, *, layer: Any) -> Any:
    weights = {"kernel": params["weight"].transpose(2, 1, 0)}
    if layer.use_bias:
        weights["bias"] = params["bias"]
    return layer.apply({"params": weights}, x.swapaxes(1, 2)).swapaxes(1, 2)


def _same_padding(drawn_port: Any, params: Params, x: Any) -> Any:
    return _linen(params, x, layer=drawn_port.keywords["layer"].clone(padding="SAME"))


def _draw_conv1d(rng: Rng) -> Drawn:
    b, c, out, length = sizes(rng, 4, low=2, high=9)
    bias = one_of(rng, True, False)
    # torch pads an even length on both sides; "SAME" pads it at the end.
    module = made(rng, lambda: Conv1d(c, out, 3, stride=2, padding=1, bias=bias))
    layer = nn.Conv(out, (3,), strides=2, padding=((1, 1),), use_bias=bias)
    return Drawn(partial(_linen, layer=layer), module, (numbers(rng, b, c, 2 * length),))


def _equinox(params: Params, x: Any, *, layer: eqx.nn.Conv2d) -> Any:
    bias = params["bias"][:, None, None]
    return jax.vmap(eqx.tree_at(lambda c: (c.weight, c.bias), layer, (params["weight"], bias)))(x)


def _draw_equinox(rng: Rng) -> Drawn:
    b, c, out, h, w = sizes(rng, 5, low=2, high=8)
    how: dict[str, Any] = {"stride": one_of(rng, 1, 2), "padding": one_of(rng, 0, 1), "dilation": one_of(rng, 1, 2)}
    module = made(rng, lambda: torch.nn.Conv2d(c, out, 2, **how))
    layer = eqx.nn.Conv2d(c, out, 2, key=jax.random.key(0), **how)
    return Drawn(partial(_equinox, layer=layer), module, (numbers(rng, b, c, h + 2, w + 2),))


def _transposed_1d(params: Params, x: Any, *, stride: int, padding: int, extra: int, flip: bool = True) -> Any:
    w = params["weight"].swapaxes(0, 1)
    w = w[..., ::-1] if flip else w
    edge = w.shape[-1] - 1 - padding
    y = lax.conv_general_dilated(x, w, (1,), [(edge, edge + extra)], lhs_dilation=(stride,))
    return y + params["bias"][:, None]


def _draw_transposed_1d(rng: Rng) -> Drawn:
    b, c, out, length = sizes(rng, 4)
    stride, padding = one_of(rng, 2, 3), one_of(rng, 0, 1)
    extra = one_of(rng, 0, 1)
    make = lambda: torch.nn.ConvTranspose1d(c, out, 4, stride, padding, output_padding=extra)
    port = partial(_transposed_1d, stride=stride, padding=padding, extra=extra)
    return Drawn(port, made(rng, make), (numbers(rng, b, c, length),))


def _transposed_2d(params: Params, x: Any, *, padding: int, flip: bool = True) -> Any:
    kernel = params["weight"].transpose(2, 3, 1, 0)
    kernel = kernel if flip else kernel.swapaxes(2, 3)
    edge = kernel.shape[0] - 1 - padding
    layer: Any = nn.ConvTranspose(
        params["bias"].shape[0], kernel.shape[:2], (2, 2), [(edge, edge)] * 2, transpose_kernel=flip
    )
    y = layer.apply({"params": {"kernel": kernel, "bias": params["bias"]}}, x.transpose(0, 2, 3, 1))
    return y.transpose(0, 3, 1, 2)


def _draw_transposed_2d(rng: Rng) -> Drawn:
    b, c, out, h, w = sizes(rng, 5, high=7)
    padding, kernel = one_of(rng, 0, 1), one_of(rng, 3, 4)
    module = made(rng, lambda: torch.nn.ConvTranspose2d(c, out, kernel, 2, padding))
    return Drawn(partial(_transposed_2d, padding=padding), module, (numbers(rng, b, c, h, w),))


def _separable(params: Params, x: Any) -> Any:
    deep = convolve(params, "deep.", x, padding=1, groups=x.shape[1])
    return convolve(params, "point.", jnp.tanh(deep))


def _separable_by_multiple(params: Params, x: Any) -> Any:
    w, b = params["deep.weight"], params["deep.bias"]
    order = np.arange(w.shape[0]).reshape(2, -1).T.reshape(-1)
    return _separable({**params, "deep.weight": w[order], "deep.bias": b[order]}, x)


def _draw_separable(rng: Rng) -> Drawn:
    b, c, out, h, w = sizes(rng, 5, low=3, high=8)
    forward = lambda m, x: m.point(torch.tanh(m.deep(x)))
    deep = lambda: torch.nn.Conv2d(c, 2 * c, 3, padding=1, groups=c)
    module = made(rng, lambda: Calls(forward, deep=deep(), point=torch.nn.Conv2d(2 * c, out, 1)))
    return Drawn(_separable, module, (numbers(rng, b, c, h, w, unkind=("small", "quantised", "zeros")),))


def _causal(params: Params, x: Any, *, dilation: int, ahead: int = 0, dilated: bool = True) -> Any:
    reach = (params["weight"].shape[-1] - 1) * dilation
    padded = jnp.pad(x, ((0, 0), (0, 0), (reach - ahead, ahead)))
    y = convolve(params, "", padded, dilation=dilation if dilated else 1)
    return y[..., : x.shape[-1]]


def _draw_causal(rng: Rng) -> Drawn:
    b, c, out, length = sizes(rng, 4, low=3, high=9)
    dilation, kernel = one_of(rng, 2, 3), one_of(rng, 2, 3)
    forward = lambda m, x: torch.nn.functional.conv1d(
        torch.nn.functional.pad(x, ((kernel - 1) * dilation, 0)), m.weight, m.bias, dilation=dilation
    )
    module = made(rng, lambda: Conv1d(c, out, kernel))
    port = partial(_causal, dilation=dilation)
    return Drawn(port, module, (numbers(rng, b, c, length + 4),), {"torch_fn": forward})


def _padded(params: Params, x: Any, *, mode: str) -> Any:
    return convolve(params, "", jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode=mode))


def _draw_padded(rng: Rng) -> Drawn:
    b, c, out, h, w = sizes(rng, 5, low=3, high=8)
    kinds: list[Any] = [("circular", "wrap"), ("reflect", "reflect"), ("replicate", "edge")]
    theirs, ours = one_of(rng, *kinds)
    module = made(rng, lambda: torch.nn.Conv2d(c, out, 3, padding=1, padding_mode=theirs))
    return Drawn(partial(_padded, mode=ours), module, (numbers(rng, b, c, h, w),))


def _narrow(port: Any, params: Params, x: Any) -> Any:
    kind = jnp.bfloat16
    return port({name: p.astype(kind) for name, p in params.items()}, x.astype(kind)).astype(x.dtype)


PAIRS = (
    ModelPair("conv1d", "a strided Conv1d in flax.linen", _draw_conv1d),
    ModelPair("conv2d", "Conv2d of any stride, padding, dilation and groups", _draw_conv2d),
    ModelPair("conv2d-equinox", "Conv2d in equinox", _draw_equinox),
    ModelPair("conv3d", "Conv3d", _draw_conv3d),
    ModelPair("conv-transpose-1d", "ConvTranspose1d as a convolution of a dilated input", _draw_transposed_1d),
    ModelPair("conv-transpose-2d", "ConvTranspose2d in flax.linen", _draw_transposed_2d),
    ModelPair("separable-conv", "two kernels per channel, then a pointwise convolution", _draw_separable),
    ModelPair("causal-conv", "a dilated convolution that sees the past", _draw_causal),
    ModelPair("padded-conv", "Conv2d with circular, reflected or replicated edges", _draw_padded),
)  # fmt: skip

MISTAKES = (
    Mistake("conv1d-same", "conv1d", 'padding "SAME" in place of one on both sides', around(_same_padding)),
    Mistake(
        "conv2d-flipped", "conv2d", "the kernel is flipped",
        other_params(lambda p: {"weight": p["weight"][..., ::-1, ::-1]}),
    ),
    Mistake(
        "conv2d-axes", "conv2d-equinox", "height and width of the kernel change places",
        other_params(lambda p: {"weight": p["weight"].swapaxes(2, 3)}),
    ),
    Mistake("conv3d-bfloat16", "conv3d", "everything is computed in bfloat16", around(_narrow)),
    Mistake("transposed-1d-flip", "conv-transpose-1d", "the kernel is not flipped", options(flip=False)),
    Mistake("transposed-2d-flip", "conv-transpose-2d", "transpose_kernel is missing", options(flip=False)),
    Mistake(
        "separable-order", "separable-conv", "the kernels of a channel do not stand side by side",
        other_port(_separable_by_multiple),
    ),
    Mistake("causal-one-ahead", "causal-conv", "it sees one step of the future", options(ahead=1)),
    Mistake("causal-undilated", "causal-conv", "the dilation is missing", options(dilated=False)),
    Mistake("padded-zeros", "padded-conv", "the edges are padded with zeros", options(mode="constant")),
)  # fmt: skip
