"""Every deliberate layout mistake in a converter fails the comparisons in the tests of correct converters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest

from tests.support.conversion import assert_reads, assert_round_trip, assert_writes
from tests.support.converter_mutants import mutant
from tests.support.libraries import LIBRARIES, NETWORKS, H

pytestmark = pytest.mark.once
SQUARE, BOTH = NETWORKS["square"], NETWORKS["square, both directions"]
LINEN, NNX = "linen.LSTMCell", "nnx.LSTMCell"
FUSED = "nnx.OptimizedLSTMCell"
ONE_WAY = (LINEN, NNX, FUSED, "haiku", "equinox")
TWO_WAYS = (LINEN, NNX, FUSED, "equinox")


def round_trip(library, network):
    for number in range(3):
        assert_round_trip(library, network, np.dtype("float32"), number)


READS, WRITES, TRIP = (assert_reads,), (assert_writes,), (round_trip,)
EITHER = READS + WRITES  # both comparisons see it

# fmt: off
# file, right text, wrong text, libraries, network, comparisons that see the mistake
MISTAKES = {
    "gate order: as keras and torch have it": ("joint", '"igfo"', '"ifgo"', ("haiku",), SQUARE, EITHER),
    "gate order: as ONNX has it": ("joint", '"igfo"', '"iofg"', ("haiku",), SQUARE, EITHER),
    "gate order: blocks left as they are": (
        "gates", "blocks[gate] for gate in wanted", "blocks[gate] for gate in stored", ("haiku",), SQUARE, EITHER,
    ),
    "gate order: backwards": (
        "gates", '"".join(GATE_ORDER)', '"".join(GATE_ORDER[::-1])', (LINEN, NNX, "haiku"), SQUARE, EITHER,
    ),
    "gates by name: i and f swapped": (
        "flax_linen", '(f"i{gate}", f"h{gate}")', '(f"i{gate}", f"h{gate.translate(str.maketrans(\'if\', \'fi\'))}")',
        (LINEN,), SQUARE, EITHER,
    ),
    "gates by name: nnx's if_ as the output gate": (
        "flax_nnx", '"f": ("if_", "hf")', '"f": ("io", "hf"), "o": ("if_", "ho")', (NNX,), SQUARE, EITHER,
    ),
    "transposition: none on reading": (
        "flax_linen", "join_gates([block.T for block in blocks])", "join_gates(blocks)", (LINEN, NNX), SQUARE, READS,
    ),
    "transposition: none of inputs on writing": (
        "flax_linen", "inputs[gate].T", "inputs[gate]", (LINEN, NNX), SQUARE, WRITES,
    ),
    "transposition: none of recurrent kernels on writing": (
        "flax_linen", "recurrent[gate].T", "recurrent[gate]", (LINEN, NNX), SQUARE, WRITES,
    ),
    "transposition: a reshape on reading": (
        "flax_nnx", "tree[name][leaf], dtype).T", "a := tree[name][leaf], dtype).reshape(-1, *a.shape[:-1])",
        (FUSED,), SQUARE, READS,
    ),
    "transposition: a reshape on writing": (
        "flax_nnx", 'order(cell["weight_hh"]).T', 'order(cell["weight_hh"]).reshape(5, -1)', (FUSED,), SQUARE, WRITES,
    ),
    "transposition: a reshape of the joint matrix": (
        "joint", "reorder(w.T,", "reorder(w.reshape(w.T.shape),", ("haiku",), SQUARE, READS,
    ),
    "joint matrix: [h, x] on reading": (
        "joint", "weights[:, :-hidden], weights[:, -hidden:]", "weights[:, hidden:], weights[:, :hidden]",
        ("haiku",), SQUARE, READS,
    ),
    "joint matrix: [h, x] on writing": (
        "haiku", 'cell["weight_ih"], cell["weight_hh"]]', 'cell["weight_hh"], cell["weight_ih"]]',
        ("haiku",), SQUARE, WRITES,
    ),
    "matrices: input and recurrent swapped": (
        "equinox", 'arrays["weight_ih"], arrays["weight_hh"]', 'arrays["weight_hh"], arrays["weight_ih"]',
        ("equinox",), SQUARE, READS,
    ),
    "forget bias: 1 forgotten": ("joint", "forget + number", "forget", ("haiku",), SQUARE, EITHER),
    "forget bias: 1 the other way": ("joint", "forget + number", "forget - number", ("haiku",), SQUARE, EITHER),
    "forget bias: 1 on the candidate's": (
        "joint", 'forget = blocks["f"]\n    blocks["f"] = forget', 'forget = blocks["g"]\n    blocks["g"] = forget',
        ("haiku",), SQUARE, EITHER,
    ),
    "bias: on the other side": (
        "layers", '{"bias_ih": bias, "bias_hh": namespace(bias).zeros_like(bias)}',
        '{"bias_hh": bias, "bias_ih": namespace(bias).zeros_like(bias)}', ONE_WAY, SQUARE, TRIP,
    ),
    "bias: doubled": (
        "layers", '"bias_hh": namespace(bias).zeros_like(bias)', '"bias_hh": bias', ONE_WAY, SQUARE, READS,
    ),
    "bias: halved on both sides": (
        "layers", '{"bias_ih": bias, "bias_hh": namespace(bias).zeros_like(bias)}',
        '{"bias_ih": bias / 2, "bias_hh": bias / 2}', ("equinox", LINEN), SQUARE, TRIP,
    ),
    "bias: dropped on reading": ("layers", '"bias_ih": bias,', '"bias_ih": bias * 0,', ONE_WAY, SQUARE, READS),
    "bias: bias_hh dropped on writing": (
        "layers", "        )\n    return bias_ih + bias_hh", "        )\n    return bias_ih", ONE_WAY, SQUARE, WRITES,
    ),
    "bias: a sum with zeros, which loses -0 and subnormal numbers": (
        "layers", "        return bias_ih\n", "        return bias_ih + bias_hh\n",
        ("equinox", LINEN, FUSED), SQUARE, TRIP,
    ),
    "directions: swapped on reading": ("layers", '("", "_reverse")', '("_reverse", "")', TWO_WAYS, BOTH, READS),
    "directions: swapped on writing": (
        "layers", "group_directions(cells, network.directions)",
        "group_directions(cells[::-1], network.directions)[::-1]",
        TWO_WAYS, BOTH, WRITES,
    ),
    "directions: Flax's names swapped": (
        "nesting", '("forward_rnn", "backward_rnn")', '("backward_rnn", "forward_rnn")', (LINEN, NNX), BOTH, EITHER,
    ),
    "directions: pairs the other way round": (
        "nesting", "for layer in layers], 2)", "for layer in layers][::-1], 2)[::-1]", ("equinox",), BOTH, READS,
    ),
    "layers: numbers downwards on reading": (
        "nesting", "for n in range(len(tree))]", "for n in reversed(range(len(tree)))]", (LINEN, NNX), SQUARE, READS,
    ),
    "layers: numbers downwards in Haiku's names": (
        "haiku", "sorted((int(match[2] or 0), name) for name, match in matches.items() if match)",
        "sorted(((int(match[2] or 0), name) for name, match in matches.items() if match), reverse=True)",
        ("haiku",), SQUARE, READS,
    ),
    "layers: numbers downwards on writing": (
        "flax_linen", "enumerate(wrapped)", "enumerate(wrapped[::-1])", (LINEN,), SQUARE, WRITES,
    ),
    "layers: numbers downwards on writing, Haiku": (
        "haiku", "enumerate(cells)", "enumerate(cells[::-1])", ("haiku",), SQUARE, WRITES,
    ),
    "cuDNN: biases first": (
        "cudnn", 'key=lambda name: name.startswith("bias")', 'key=lambda name: name.startswith("weight")',
        ("cudnn",), SQUARE, READS,
    ),
    "cuDNN: layer by layer": (
        "cudnn", 'sorted(shapes, key=lambda name: name.startswith("bias"))', "shapes", ("cudnn",), SQUARE, READS,
    ),
    "cuDNN: all biases of one side first": (
        "cudnn", 'for row in rows for name in ("bias_ih", "bias_hh")',
        'for name in ("bias_ih", "bias_hh") for row in rows',
        ("cudnn",), SQUARE, WRITES,
    ),
    "cuDNN: recurrent matrices first": (
        "cudnn", '("weight_ih", "weight_hh")]', '("weight_hh", "weight_ih")]', ("cudnn",), SQUARE, WRITES,
    ),
}
# fmt: on
CASES = [pytest.param(mistake, name, id=f"{mistake}-{name}") for mistake, case in MISTAKES.items() for name in case[3]]


def with_functions(name, functions):
    """Return the library with the functions of a mutated copy of the package."""
    library = LIBRARIES[name]
    write = library.write
    if isinstance(write, partial):
        write = partial(functions[write.func.__name__], **write.keywords)
    else:
        write = functions[write.__name__]
    return replace(library, read=functions[library.read.__name__], write=write)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_copy_without_a_mistake_passes(name):
    with mutant("gates", "stored == wanted", "stored == wanted") as functions:
        library = with_functions(name, functions)
        for compare in EITHER:
            compare(library, SQUARE)


@pytest.mark.parametrize(("mistake", "name"), CASES)
def test_a_mistake_in_the_source_is_seen(mistake, name):
    file, right, wrong, _, network, comparisons = MISTAKES[mistake]
    LIBRARIES[name].need()
    with mutant(file, right, wrong) as functions:
        library = with_functions(name, functions)
        for compare in comparisons:
            with pytest.raises(AssertionError):
                compare(library, network)


def changed(kinds, change):
    """Return a function of params that applies ``change`` to the four gates' blocks of arrays of these kinds."""

    def make(params):
        blocks = {n: np.asarray(a).reshape(4, H, *a.shape[1:]) for n, a in params.items() if n.startswith(kinds)}
        return dict(params) | {n: change(b).reshape(params[n].shape) for n, b in blocks.items()}

    return make


def wrong_layouts():
    """Yield all 23 wrong gate orders, swaps of two neighbours in only one kind of array, and transposed blocks."""
    for order in list(permutations(range(4)))[1:]:
        yield f"order {order}", changed(("weight", "bias"), lambda b, order=order: b[list(order)])
    for kind in ("weight_ih", "weight_hh", "bias"):
        for order in ([1, 0, 2, 3], [0, 2, 1, 3], [0, 1, 3, 2]):
            yield f"order {order} of {kind}", changed((kind,), lambda b, order=order: b[order])
    for kind in ("weight_ih", "weight_hh"):
        yield f"{kind} transposed", changed((kind,), lambda b: b.swapaxes(1, 2))


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_wrong_order_and_transposition_is_seen(name):
    right = LIBRARIES[name]
    right.need()
    for what, change in wrong_layouts():
        wrong = replace(
            right,
            read=lambda tree, change=change, **options: change(right.read(tree, **options)),
            write=lambda params, change=change: right.write(change(params)),
        )
        for compare in EITHER:
            try:
                compare(wrong, SQUARE)
            except AssertionError:
                continue
            pytest.fail(f"{what}: {compare.__name__} saw nothing")
