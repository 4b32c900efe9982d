"""The compiled gradient on four devices: one sum over devices at the end, no collective in a loop over time.

The control is the same network with plain autodiff of a scan. The checker finds a sum per step in its loop.
"""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import crosscheck
import jax_lstm
from crosscheck.studies.compiled.collectives import Collective
from tests.support.arrays import drawn_weights

B, T, D, H = 8, 6, 3, 4
DEVICES = 4
X = np.random.default_rng(0).normal(size=(B, T, D))
LENGTHS = np.arange(B) % (T + 1)
CASES = {  # name: the network, the options
    "default": ({}, {}),
    "lengths": ({}, {"lengths": LENGTHS}),
    "bidirectional, 2 layers": ({"num_layers": 2, "bidirectional": True}, {}),
    "projection": ({"proj_size": 2}, {}),
    "truncate": ({}, {"truncate_every": 2}),
}


def ours(params, x, rows, **options):
    """Return a loss of jax_lstm. ``rows`` are the lengths, with their sharding on the mesh."""
    y, last = jax_lstm.lstm(params, x, **options | ({"lengths": rows} if "lengths" in options else {}))
    return jnp.sum(jnp.sin(y)) + jnp.sum(last.h**2) + jnp.sum(last.c**3)


def plain(params, x, rows):
    """Return the same loss of the usual program: the body of a scan is the whole cell, and JAX differentiates it."""
    w_ih, w_hh, bias = (params[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih"))

    def step(state, x_t):
        h, c = state
        i, f, g, o = jnp.split(x_t @ w_ih.T + h @ w_hh.T + bias, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros_like(x[:, 0] @ w_ih[:H].T)
    return jnp.sum(jnp.sin(jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))[1]))


def mesh_of(kind):
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(kind,), devices=jax.devices()[:DEVICES])


def by_jit(loss, params):
    mesh = mesh_of(AxisType.Auto)
    params = jax.device_put(params, NamedSharding(mesh, P()))
    data = jax.device_put((X, LENGTHS), NamedSharding(mesh, P("data")))
    return jax.jit(jax.grad(loss, (0, 1))).lower(params, *data).compile()


def by_explicit_mesh(loss, params):
    with jax.set_mesh(mesh_of(AxisType.Explicit)):
        params, data = jax.device_put(params, P()), jax.device_put((X, LENGTHS), P("data"))
        return jax.jit(jax.grad(loss, (0, 1))).lower(params, *data).compile()


def by_shard_map(loss, params):
    def total(*arguments):
        return jax.lax.psum(loss(*arguments), "data")

    mapped = jax.shard_map(total, mesh=mesh_of(AxisType.Auto), in_specs=(P(), P("data"), P("data")), out_specs=P())
    return jax.jit(jax.grad(mapped, (0, 1))).lower(params, X, LENGTHS).compile()


WAYS = {"jit": by_jit, "explicit mesh": by_explicit_mesh, "shard_map": by_shard_map}


def network(**sizes):
    return drawn_weights(D, H, **sizes)


def numbers(collective):
    """Return how many numbers one collective gives."""
    shapes = re.findall(r"\w+\[([\d,]*)\]", collective.shape)
    return sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_no_collective_in_a_loop(name, way):
    """After the loops, devices sum only gradients of weights, and no array that is as long as the sequence."""
    sizes, options = CASES[name]
    params = network(**sizes)
    found = crosscheck.find_collectives(WAYS[way](lambda *a: ours(*a, **options), params))
    assert [c for c in found if c.loops] == []
    assert {c.operation for c in found} == {"all-reduce"}
    weights = sum(a.size for a in params.values())
    one_bias = sum(a.size for name, a in params.items() if "bias_hh" in name)  # both biases have one gradient
    assert weights - one_bias <= sum(map(numbers, found)) <= weights


@pytest.mark.parametrize("way", WAYS)
def test_the_control_has_one_at_every_step(way):
    params = {name: a for name, a in network().items() if name != "bias_hh_l0"}
    inside = [c for c in crosscheck.find_collectives(WAYS[way](plain, params)) if c.loops]
    assert {c.operation for c in inside} == {"all-reduce"}
    assert {c.loops for c in inside} == {(T,)}
    assert sum(map(numbers, inside)) >= sum(a.size for a in params.values())


@pytest.mark.parametrize(("way", "loops"), [("jit", {(3,)}), ("explicit mesh", {(3,)}), ("shard_map", set())])
def test_chunks_have_one_per_chunk_and_none_under_shard_map(way, loops):
    """There are three chunks of two steps. A collective in a loop over time would be in loops of 3 and 2."""
    found = crosscheck.find_collectives(WAYS[way](lambda *a: ours(*a, checkpoint_every=2), network()))
    assert {c.operation for c in found} == {"all-reduce"}
    assert {c.loops for c in found if c.loops} == loops
    assert sum(map(numbers, found)) <= sum(a.size for a in network().values())


TITLE = "HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[8]{0})->f32[8]{0}}, num_partitions=4\n"
PROGRAM = """
%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%test (p: (s32[], f32[8])) -> pred[] {
  %p = (s32[], f32[8]{0}) parameter(0)
  ROOT %all-gather = pred[] constant(true)
}

%wrapped (p.1: f32[8]) -> f32[2] {
  %p.1 = f32[8]{0} parameter(0)
  ROOT %rs = f32[2]{0} reduce-scatter(%p.1), dimensions={0}, to_apply=%add, metadata={op_name="jit(f)/rs"}
}

%inner (p.2: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.2 = (s32[], f32[8]{0}) parameter(0)
  %go = ((f32[8]{0}), f32[2]{0}) async-start(%p.2), calls=%wrapped
  %on = ((f32[8]{0}), f32[2]{0}) async-update(%go), calls=%wrapped
  %gone = f32[2]{0} async-done(%on), calls=%wrapped
  ROOT %t = (s32[], f32[8]{0}) tuple(%p.2, %gone), control-predecessors={%branch}
}

%branch (p.3: f32[8]) -> f32[8] {
  %p.3 = f32[8]{0} parameter(0)
  %s = (f32[8]{0}, /*index=1*/f32[]) all-reduce-start(%p.3), channel_id=1, to_apply=%add
  ROOT %d = (f32[8]{0}, f32[]) all-reduce-done(%s)
}

%other (p.4: f32[8]) -> f32[8] {
  ROOT %p.4 = f32[8]{0:T(256)} parameter(0)
}

%outer (p.5: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p.5 = (s32[], f32[8]{0}) parameter(0)
  %c = f32[8]{0} conditional(%p.5, %p.5, %p.5), branch_computations={%other, %branch}
  ROOT %w = (s32[], f32[8]{0}) while(%p.5), condition=%test, body=%inner, metadata={op_name="calls=%branch"}
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %w.1 = (s32[], f32[8]{0}) while(%x), condition=%test, body=%outer, backend_config={"known_trip_count":{"n":"5"}}
  ROOT %cp = f32[8]{0:T(256)} collective-permute(%x), source_target_pairs={{0,1}}, metadata={op_name="jit(f)/p"}
}
"""


def test_the_text_is_followed_into_loops_branches_and_asynchronous_parts():
    assert crosscheck.find_collectives(TITLE + PROGRAM) == [
        Collective("all-reduce", "(f32[8], f32[])", (5,), ""),
        Collective("reduce-scatter", "f32[2]", (5, None), "jit(f)/rs"),
        Collective("collective-permute", "f32[8]", (), "jit(f)/p"),
    ]


@pytest.mark.parametrize("suffix", ["", "-start"])
@pytest.mark.parametrize(
    "operation",
    [
        "all-gather",
        "all-reduce",
        "all-to-all",
        "collective-broadcast",
        "collective-permute",
        "ragged-all-to-all",
        "reduce-scatter",
        "send",
    ],
)
def test_every_operation_that_communicates_is_known(operation, suffix):
    text = TITLE + PROGRAM.replace("collective-permute(%x)", f"{operation}{suffix}(%x)")
    assert crosscheck.find_collectives(text)[-1] == Collective(operation, "f32[8]", (), "jit(f)/p")


def test_a_collective_reads_as_a_line():
    lines = [str(c) for c in crosscheck.find_collectives(TITLE + PROGRAM)]
    assert lines[1] == "reduce-scatter f32[2] in a loop, 5 x ? times: jit(f)/rs"
    assert lines[2] == "collective-permute f32[8] once: jit(f)/p"


def test_what_could_hold_no_collective_is_refused():
    on_one = jax.jit(jnp.sin).lower(X)
    for compiled in (on_one.compile(), TITLE.replace("num_partitions=4", "num_partitions=1") + PROGRAM):
        with pytest.raises(ValueError, match="one device"):
            crosscheck.find_collectives(compiled)
    for lowered in (on_one, on_one.as_text("hlo")):
        with pytest.raises(ValueError, match=r"\.compile\(\)"):
            crosscheck.find_collectives(lowered)
    with pytest.raises(ValueError, match="ENTRY"):
        crosscheck.find_collectives(TITLE + PROGRAM.partition("ENTRY")[0])
    with pytest.raises(TypeError, match="got function"):
        crosscheck.find_collectives(lambda x: x)
