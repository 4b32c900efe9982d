"""Times a deep stack on one device, data parallel, and as a pipeline over layers and time.

In the pipeline each device holds a share of the layers, and the sequence is divided into chunks of steps. While a
device works on one chunk, the previous device works on the next chunk, and then passes its outputs on. N devices and C
chunks take C + N - 1 ticks. A tick takes 1 / (C N) of the work. So the time is at best (C + N - 1) / (C N) of one
device's time. At every tick each device sends ``[B, T / C, H]`` numbers to the next device.

    python -m benchmarks.pipeline --layers 4 --devices 2 --batch 1 --length 1000 --hidden 64

First all ways are compared in float64, outputs and gradients. A difference beyond rounding ends the run with exit code
1. Then they are timed in float32 in turn. The table has the median of each, and its ratio to one device's. On CPU the
devices are threads of one process. One device may also use every core, for a large product or for two independent ones.
So the ratio shows the gain on this machine, and not the gain of N machines. Chunks on one device have their own row,
since a chunk may fit into a cache and be faster for this reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import typer
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_lstm
from benchmarks.timing import medians
from crosscheck.report.table import Table
from crosscheck.report.terminal import output, say, show
from jax_lstm import LSTMState

Params: TypeAlias = Mapping[str, jax.Array]
Run: TypeAlias = Callable[[Params, jax.Array], jax.Array]


class Way(NamedTuple):
    """A function, and its arguments on its devices.

    ``at_best`` is its time in units of one device's time, if all devices are as fast as a single one and transfers take
    no time.
    """

    run: Run
    params: Params
    x: jax.Array
    at_best: float = 1.0

    def compiled(self, make: Callable[[Run], Callable[..., Any]]) -> Callable[[], Any]:
        """Return a call of ``make(run)`` that returns when its results are ready."""
        program = jax.jit(make(self.run))
        return lambda: jax.block_until_ready(program(self.params, self.x))


def pipeline_over(mesh: Mesh, chunks: int) -> Run:
    """Return the pipeline: a function of stacked parameters (`stack`) and x ``[B, T, D]`` that returns ``[B, T, H]``.

    The number of layers is a multiple of the mesh's devices, T is a multiple of ``chunks``, and D is at most H.
    """
    devices = mesh.shape["layer"]
    onward = [(device, device + 1) for device in range(devices - 1)]

    def share(params: Params, parts: jax.Array) -> jax.Array:
        """Run one device's layers. Every device has all parts ``[C, B, T / C, H]``."""
        layers = next(iter(params.values())).shape[0]
        named = {f"{name}_l{n}": a[n] for name, a in params.items() for n in range(layers)}
        device = jax.lax.axis_index("layer")
        nothing = jax.lax.pcast(jnp.zeros_like(parts[0]), "layer", to="varying")
        state = jnp.stack([nothing[:, 0]] * layers)

        def tick(carry: tuple[jax.Array, LSTMState], now: jax.Array) -> tuple[tuple[jax.Array, LSTMState], jax.Array]:
            handed, state = carry
            source = jnp.where(device == 0, parts[jnp.minimum(now, chunks - 1)], handed)
            y, after = jax_lstm.lstm(named, source, state)
            at_work = (now >= device) & (now < device + chunks)
            state = jax.tree.map(lambda new, old: jnp.where(at_work, new, old), after, state)
            return (jax.lax.ppermute(y, "layer", onward), state), y

        ticks = jnp.arange(chunks + devices - 1)
        _, y = jax.lax.scan(tick, (nothing, LSTMState(state, state)), ticks)
        return y[None]

    mapped = jax.shard_map(share, mesh=mesh, in_specs=(P("layer"), P()), out_specs=P("layer"))

    def run(params: Params, x: jax.Array) -> jax.Array:
        batch, length, inputs = x.shape
        x = jnp.pad(x, ((0, 0), (0, 0), (0, params["weight_ih"].shape[-1] - inputs)))
        y = mapped(params, x.reshape(batch, chunks, length // chunks, -1).swapaxes(0, 1))
        return y[-1, devices - 1 :].swapaxes(0, 1).reshape(batch, length, -1)

    return run


def in_chunks(chunks: int) -> Run:
    """Return the stack on one device, chunk after chunk. It shows the effect of the chunks without a pipeline."""

    def run(params: Params, x: jax.Array) -> jax.Array:
        layers, hidden = sum("weight_hh" in name for name in params), params["weight_hh_l0"].shape[1]
        batch, length, inputs = x.shape
        zero = jnp.zeros((layers, batch, hidden), x.dtype)

        def chunk(state: LSTMState, part: jax.Array) -> tuple[LSTMState, jax.Array]:
            y, state = jax_lstm.lstm(params, part, state)
            return state, y

        parts = x.reshape(batch, chunks, length // chunks, inputs).swapaxes(0, 1)
        _, y = jax.lax.scan(chunk, LSTMState(zero, zero), parts)
        return y.swapaxes(0, 1).reshape(batch, length, hidden)

    return run


def stack(params: Params, layers: int) -> dict[str, jax.Array]:
    """Return one array ``[L, ...]`` per name. Columns of zeros make the first layer's inputs as wide as the others'."""
    hidden = params["weight_hh_l0"].shape[1]
    missing = hidden - params["weight_ih_l0"].shape[1]
    params = dict(params) | {"weight_ih_l0": jnp.pad(params["weight_ih_l0"], ((0, 0), (0, missing)))}
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return {name: jnp.stack([params[f"{name}_l{n}"] for n in range(layers)]) for name in names}


def make_ways(layers: int, devices: int, chunks: list[int], params: Params, x: jax.Array) -> dict[str, Way]:
    """Return all ways by name, one device first."""
    plain = lambda params, x: jax_lstm.lstm(params, x)[0]
    mesh_over = lambda axis: jax.make_mesh((devices,), (axis,), (AxisType.Auto,), devices=jax.devices()[:devices])
    ways = {"one device": Way(plain, params, x)}
    ways |= {f"one device, {count} chunks": Way(in_chunks(count), params, x) for count in chunks}
    if x.shape[0] % devices == 0:
        mesh = mesh_over("data")
        whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
        ways["data parallel"] = Way(plain, jax.device_put(params, whole), jax.device_put(x, rows), 1 / devices)
    mesh = mesh_over("layer")
    laid = jax.device_put(stack(params, layers), NamedSharding(mesh, P("layer")))
    for count in chunks:
        whole = jax.device_put(x, NamedSharding(mesh, P()))
        at_best = (count + devices - 1) / (count * devices)
        ways[f"pipeline, {count} chunks"] = Way(pipeline_over(mesh, count), laid, whole, at_best)
    return ways


def training(run: Run) -> Callable[[Params, jax.Array], Any]:
    """Return a loss of the outputs, with its gradients with respect to weights and x."""
    return jax.value_and_grad(lambda params, x: jnp.sum(jnp.sin(run(params, x))), argnums=(0, 1))


def largest_difference(ways: dict[str, Way], layers: int, inputs: int) -> float:
    """Return the largest difference of any output or gradient from one device's, relative to its largest number."""

    def results(name: str) -> dict[str, np.ndarray]:
        run, params, x, _ = ways[name]
        of_weights, of_x = jax.jit(training(run))(params, x)[1]
        of_weights = of_weights if "weight_ih" in of_weights else stack(of_weights, layers)
        of_weights["weight_ih"] = of_weights["weight_ih"].at[0, :, inputs:].set(0)  # of the added columns
        arrays = {"y": jax.jit(run)(params, x), "x": of_x} | of_weights
        return {quantity: np.asarray(a) for quantity, a in arrays.items()}

    expected = results("one device")
    largest = {quantity: np.max(np.abs(a)) for quantity, a in expected.items()}
    every = [results(name) for name in ways]
    return float(max(np.max(np.abs(each[q] - expected[q])) / largest[q] for each in every for q in expected))


def main(
    layers: Annotated[int, typer.Option(min=1, help="a multiple of --devices")] = 4,
    devices: Annotated[int, typer.Option(min=2)] = 2,
    batch: Annotated[int, typer.Option(min=1, help="data parallel runs if it is a multiple of --devices")] = 1,
    length: Annotated[int, typer.Option(min=1, help="steps; a multiple of every --chunks")] = 1000,
    inputs: Annotated[int, typer.Option(min=1, help="at most --hidden")] = 64,
    hidden: Annotated[int, typer.Option(min=1)] = 64,
    chunks: Annotated[list[int] | None, typer.Option(min=1, help="may be repeated; 4, 10 and 25 if not given")] = None,
    rounds: Annotated[int, typer.Option(min=1)] = 21,
) -> None:
    """Time one device, data parallel and the pipeline, after a check that they compute the same."""
    counts = chunks or [4, 10, 25]
    if layers % devices or any(length % count for count in counts) or inputs > hidden:
        raise typer.BadParameter(
            f"--layers {layers} must be a multiple of --devices {devices}, --length {length} of each of --chunks "
            f"{counts}, and --inputs {inputs} at most --hidden {hidden}"
        )
    jax.config.update("jax_num_cpu_devices", devices)

    def ways(dtype: str) -> dict[str, Way]:
        params = jax_lstm.init_lstm(jax.random.key(0), inputs, hidden, layers, dtype=dtype)
        x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, length, inputs)), dtype)
        return make_ways(layers, devices, counts, params, x)

    with jax.enable_x64(True):
        apart = largest_difference(ways("float64"), layers, inputs)
    console = output()
    say(console, f"largest difference in float64, outputs and gradients: {apart:.1e}")
    if not apart < 1e-12:
        raise typer.Exit(1)
    kinds = {"forward": lambda run: run, "training": training}
    in_float32 = ways("float32")
    timed = {
        kind: medians({name: way.compiled(make) for name, way in in_float32.items()}, most_runs=rounds)
        for kind, make in kinds.items()
    }
    columns = ("way", *(f"{kind}, {what}" for kind in timed for what in ("ms", "ratio")), "at best")
    rows = []
    for name, way in in_float32.items():
        cells = [(each[name], each[name] / each["one device"]) for each in timed.values()]
        texts = [text for seconds, ratio in cells for text in (f"{1e3 * seconds:.1f}", f"{ratio:.2f}")]
        rows.append((name, *texts, f"{way.at_best:.2f}"))
    title = f"{layers} layers on {devices} devices, B = {batch}, T = {length}, D = {inputs}, H = {hidden}"
    show(console, Table(title, columns, tuple(rows), numeric=columns[1:]))


if __name__ == "__main__":
    typer.run(main)
