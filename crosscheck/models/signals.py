"""Signals: spectra, cosine transforms, Fourier features, neural operators and radiance fields."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional as F

from crosscheck.models.building_blocks import Params, draw_input, exact_gelu, linear
from crosscheck.models.changing import options
from crosscheck.models.drawing import sizes
from crosscheck.models.pair import Calls, Drawn, Mistake, ModelPair, seeded

L = torch.nn.Linear


def _features_torch(m: Any, x: Any) -> Any:
    angles = 2 * torch.pi * x @ m.directions
    return m.out(torch.cat([angles.cos(), angles.sin()], -1))


def _features(
    params: Params, x: Any, *, directions: np.ndarray, turn: float = 2 * np.pi, sine_first: bool = False
) -> Any:
    angles = turn * x @ directions
    parts = [jnp.cos(angles), jnp.sin(angles)]
    return linear(params, "out", jnp.concatenate(parts[::-1] if sine_first else parts, axis=-1))


def _draw_features(rng: np.random.Generator) -> Drawn:
    """The directions are a buffer, and the port has a copy of them."""
    batch, size, count, out = sizes(rng, 4, 2, 9)
    directions = rng.normal(size=(size, count)).astype(np.float32)
    with seeded(rng):
        module = Calls(_features_torch, out=L(2 * count, out))
    module.register_buffer("directions", torch.tensor(directions))
    x = draw_input(rng, batch, size, unkind=("quantised", "small"))
    return Drawn(partial(_features, directions=directions), module, (x,))


def _operator_torch(m: Any, x: Any) -> Any:
    """A layer of a Fourier neural operator over `[B, C, N]`. Its complex weights are pairs of real ones."""
    points, modes = x.shape[-1], m.pairs.shape[2]
    spectrum = torch.fft.rfft(x)[..., :modes]
    kept = torch.einsum("bcm,cdm->bdm", spectrum, torch.view_as_complex(m.pairs))
    return F.gelu(torch.fft.irfft(kept, n=points) + m.point(x))


def _operator(
    params: Params,
    x: Any,
    *,
    norm: str | None = None,
    weight: Callable[[Any], Any] = lambda pairs: pairs[..., 0] + 1j * pairs[..., 1],
) -> Any:
    points, modes = x.shape[-1], params["pairs"].shape[2]
    spectrum = jnp.fft.rfft(x, axis=-1)[..., :modes]
    kept = jnp.einsum("bcm,cdm->bdm", spectrum, weight(params["pairs"]))
    full = jnp.pad(kept, ((0, 0), (0, 0), (0, points // 2 + 1 - modes)))
    local = jnp.einsum("dc,bcn->bdn", params["point.weight"][..., 0], x) + params["point.bias"][:, None]
    return exact_gelu(jnp.fft.irfft(full, n=points, norm=norm) + local)


def _draw_operator(rng: np.random.Generator) -> Drawn:
    batch, channels, out, modes = sizes(rng, 4, 2, 6)
    points = int(rng.integers(2 * modes, 19))
    with seeded(rng):
        pairs = torch.nn.Parameter(torch.randn(channels, out, modes, 2) / channels)
        module = Calls(_operator_torch, pairs=pairs, point=torch.nn.Conv1d(channels, out, 1))
    return Drawn(_operator, module, (draw_input(rng, batch, channels, points),))


def _spectrogram_torch(m: Any, wave: Any) -> Any:
    """The magnitude of a short-time Fourier transform, and a learned filter bank."""
    window = torch.hann_window(m.size, dtype=wave.dtype)
    spectrum = torch.stft(wave, m.size, m.hop, window=window, center=True, return_complex=True)
    magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-6)
    return torch.log1p(m.bank.exp() @ magnitude)


def _spectrogram(params: Params, wave: Any, *, size: int, hop: int, pad: str = "reflect", periodic: bool = True) -> Any:
    padded = jnp.pad(wave, ((0, 0), (size // 2, size // 2)), mode=pad)
    starts = np.arange(0, padded.shape[-1] - size + 1, hop)
    window = np.hanning(size + 1)[:size] if periodic else np.hanning(size)
    frames = padded[:, starts[:, None] + np.arange(size)] * jnp.asarray(window, wave.dtype)
    spectrum = jnp.fft.rfft(frames, axis=-1).swapaxes(1, 2)
    magnitude = jnp.sqrt(jnp.abs(spectrum) ** 2 + 1e-6)
    return jnp.log1p(jnp.exp(params["bank"]) @ magnitude)


def _draw_spectrogram(rng: np.random.Generator) -> Drawn:
    batch, filters, hop = sizes(rng, 3, 2, 5)
    size, samples = int(rng.choice([6, 8])), int(rng.integers(17, 30))
    with seeded(rng):
        bank = torch.nn.Parameter(torch.randn(filters, size // 2 + 1))
        module = Calls(_spectrogram_torch, bank=bank, size=size, hop=hop)
    wave = draw_input(rng, batch, samples, unkind=("quantised", "offset"))
    return Drawn(partial(_spectrogram, size=size, hop=hop), module, (wave,))


def _cosines_torch(m: Any, x: Any) -> Any:
    """The orthonormal DCT-II by a matrix. The highest coefficients shrink, and the inverse brings the signal back."""
    size = x.shape[-1]
    n = torch.arange(size, dtype=x.dtype)
    matrix = torch.cos(torch.pi / size * (n + 0.5) * n[:, None]) * (2 / size) ** 0.5
    matrix = torch.cat([matrix[:1] / 2**0.5, matrix[1:]])
    return (x @ matrix.T * torch.sigmoid(m.keep)) @ matrix


def _cosines(params: Params, x: Any, *, norm: str | None = "ortho") -> Any:
    coefficients = jax.scipy.fft.dct(x, norm=norm) * jax.nn.sigmoid(params["keep"])
    return jax.scipy.fft.idct(coefficients, norm="ortho")


def _draw_cosines(rng: np.random.Generator) -> Drawn:
    batch, size = sizes(rng, 2, 2, 16)
    with seeded(rng):
        module = Calls(_cosines_torch, keep=torch.nn.Parameter(torch.randn(size)))
    return Drawn(_cosines, module, (draw_input(rng, batch, size, unkind=("offset", "quantised", "large")),))


def _field_torch(m: Any, rays: Any, depths: Any) -> Any:
    """A small NeRF: points on rays, positional encoding, a network, and volume rendering."""
    points = rays[:, None, :3] + rays[:, None, 3:] * depths[..., None]
    waves = [points] + [f(2.0**k * torch.pi * points) for k in range(m.octaves) for f in (torch.sin, torch.cos)]
    raw = m.second(torch.relu(m.first(torch.cat(waves, -1))))
    gaps = torch.cat([depths[:, 1:] - depths[:, :-1], torch.ones_like(depths[:, :1])], -1)
    alpha = 1 - torch.exp(-F.softplus(raw[..., 3]) * gaps)
    passed = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1), -1)[:, :-1]
    weights = alpha * passed
    return (weights[..., None] * torch.sigmoid(raw[..., :3])).sum(1), (weights * depths).sum(1)


def _passed(alpha: Any) -> Any:
    """Return the light that reaches each point: the product over the points before it."""
    shifted = jnp.concatenate([jnp.ones_like(alpha[:, :1]), 1 - alpha[:, :-1] + 1e-10], axis=-1)
    return jnp.cumprod(shifted, axis=-1)


def _passed_with_own(alpha: Any) -> Any:
    return jnp.cumprod(1 - alpha + 1e-10, axis=-1)


def _field(
    params: Params,
    rays: Any,
    depths: Any,
    *,
    octaves: int,
    passed: Callable[[Any], Any] = _passed,
    turn: float = np.pi,
) -> Any:
    points = rays[:, None, :3] + rays[:, None, 3:] * depths[..., None]
    waves = [points] + [f(2.0**k * turn * points) for k in range(octaves) for f in (jnp.sin, jnp.cos)]
    raw = linear(params, "second", jax.nn.relu(linear(params, "first", jnp.concatenate(waves, axis=-1))))
    gaps = jnp.diff(depths, axis=-1, append=depths[:, -1:] + 1)
    alpha = -jnp.expm1(-jax.nn.softplus(raw[..., 3]) * gaps)
    weights = alpha * passed(alpha)
    colour = jnp.einsum("rs,rsc->rc", weights, jax.nn.sigmoid(raw[..., :3]))
    return colour, (weights * depths).sum(1)


def _draw_field(rng: np.random.Generator) -> Drawn:
    batch, samples, octaves, hidden = sizes(rng, 4, 2, 8)
    octaves = min(octaves, 4)
    with seeded(rng):
        module = Calls(_field_torch, first=L(3 + 6 * octaves, hidden), second=L(hidden, 4), octaves=octaves)
    rays = np.concatenate([rng.normal(size=(batch, 3)), rng.normal(size=(batch, 3))], -1)
    depths = np.sort(rng.uniform(0.5, 3, (batch, samples)), -1)
    return Drawn(partial(_field, octaves=octaves), module, (rays, depths), {"output_names": ("colour", "depth")})


PAIRS = (
    ModelPair("fourier-features", "random Fourier features and a layer", _draw_features),
    ModelPair("fourier-operator", "a layer of a Fourier neural operator", _draw_operator),
    ModelPair("spectrogram", "torch.stft and a filter bank against frames and rfft", _draw_spectrogram),
    ModelPair("cosine-transform", "a DCT by its matrix against jax.scipy.fft", _draw_cosines),
    ModelPair("radiance-field", "a small NeRF: encoding, network and rendering", _draw_field),
)
MISTAKES = (
    Mistake("features-turn", "fourier-features", "angles lack 2π", options(turn=1.0)),
    Mistake("features-order", "fourier-features", "sines come before cosines", options(sine_first=True)),
    Mistake("operator-norm", "fourier-operator", "the inverse transform is orthonormal", options(norm="ortho")),
    Mistake(
        "operator-conjugate",
        "fourier-operator",
        "complex weights are conjugated",
        options(weight=lambda pairs: pairs[..., 0] - 1j * pairs[..., 1]),
    ),
    Mistake("spectrogram-pad", "spectrogram", "the wave is padded with zeros", options(pad="constant")),
    Mistake("spectrogram-window", "spectrogram", "the window is symmetric, as NumPy's", options(periodic=False)),
    Mistake("cosine-norm", "cosine-transform", "the transform is not orthonormal", options(norm=None)),
    Mistake("radiance-own", "radiance-field", "a point shades itself", options(passed=_passed_with_own)),
    Mistake("radiance-turn", "radiance-field", "the encoding lacks π", options(turn=1.0)),
)
