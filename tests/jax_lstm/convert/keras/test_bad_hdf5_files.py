"""Keras's old HDF5 files that are damaged or harmful: one clear error, and no link in them is followed."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest

from jax_lstm import convert
from jax_lstm.convert.keras import hdf5
from tests.support.keras_files import (
    drawn_cell,
    h5py,
    lstm_config,
    named,
    put_external,
    put_link,
    put_virtual,
    sequential,
    write_model,
    write_weights,
)

D, H = 3, 4
KERNEL = "a/a/lstm_cell/kernel:0"  # below the group of layers
KINDS = pytest.mark.parametrize("kind", [0, 1], ids=["whole model", "weights"])


@pytest.fixture
def files(tmp_path):
    """Return the files of a whole model and of its weights only, with the LSTM layers a and b."""
    layers = {"a": named("a/lstm_cell", drawn_cell(D, H, 1)), "b": named("b/lstm_cell", drawn_cell(H, H, 2))}
    whole = write_model(tmp_path / "m.h5", sequential(lstm_config("a"), lstm_config("b")), layers)
    return whole, write_weights(tmp_path / "w.h5", layers)


def huge(layers):
    del layers["a/a"]
    for name, shape in (("kernel", (2**20, 2**26)), ("recurrent_kernel", (2**24, 2**26)), ("bias", (2**26,))):
        chunks = (1,) * len(shape)
        layers.create_dataset(f"a/a/lstm_cell/{name}:0", shape, "f4", chunks=chunks, compression="gzip")


def strings(layers):
    del layers[KERNEL]
    layers.create_dataset(KERNEL, (D, 4 * H), h5py.string_dtype())


def renamed(layers, name):
    layers["a"].attrs["weight_names"] = [name, *layers["a"].attrs["weight_names"][1:]]


HOSTILE = {
    "soft link": (lambda g: put_link(g, KERNEL, h5py.SoftLink("/elsewhere")), "has 'kernel:0' as a SoftLink"),
    "external link": (
        lambda g: put_link(g, KERNEL, h5py.ExternalLink("/etc/passwd", "/a")),
        "has 'kernel:0' as a ExternalLink",
    ),
    "a link on the way": (lambda g: put_link(g, "a/a", h5py.SoftLink(f"{g.name}/b")), "has 'a' as a SoftLink"),
    "a layer that is a link": (lambda g: put_link(g, "a", h5py.ExternalLink("o.h5", "/")), "has 'a' as a ExternalLink"),
    "external data": (lambda g: put_external(g, KERNEL, (D, 4 * H)), "lies in another file"),
    "virtual data": (lambda g: put_virtual(g, KERNEL, (D, 4 * H)), "lies in another file"),
    "declares terabytes": (huge, "declares 281474976710656 bytes and holds 0"),
    "strings for numbers": (strings, "has dtype object, where numbers are expected"),
    "a name from the root": (lambda g: renamed(g, f"/{KERNEL}"), "has no '/a/a/lstm_cell/kernel:0' below it"),
    "a name that is not there": (lambda g: renamed(g, "a/none/kernel:0"), "has no 'none'"),
    "a name through an array": (lambda g: renamed(g, "a/lstm_cell/kernel:0/x/kernel:0"), "has no '.*' below it"),
    "numbers for names": (lambda g: g["a"].attrs.create("weight_names", [1, 2]), "where strings are expected"),
}


@KINDS
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights(name, kind, files):
    change, match = HOSTILE[name]
    with h5py.File(files[kind], "r+") as file:
        change(file["model_weights"] if kind == 0 else file)
    with pytest.raises(ValueError, match=rf"{files[kind].name}:.* {match}"):
        convert.from_keras(files[kind])
    found = convert.keras_networks(files[kind])
    assert isinstance(found["a"], convert.KerasRefusal)
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["b"]["weight_hh_l0"], drawn_cell(H, H, 2)[1].T)


def test_what_is_wrong_beside_the_lstm_layers(tmp_path):
    """Other layers are still read, and the refusal says what is wrong."""
    layers = {"a": named("a/lstm_cell", drawn_cell(D, H, 1)), "d": {"d/kernel:0": np.ones((H, 2))}}
    dense = {"class_name": "Dense", "config": {"name": "d", "units": 2}}
    path = write_model(tmp_path / "m.h5", sequential(lstm_config("a"), dense), layers)
    with h5py.File(path, "r+") as file:
        put_link(file["model_weights"], "d/d/kernel:0", h5py.SoftLink("/elsewhere"))
    wanted = convert.from_keras(drawn_cell(D, H, 1))
    found = convert.keras_networks(path)
    for params in (convert.from_keras(path), found["a"]):
        for name, array in wanted.items():
            np.testing.assert_array_equal(params[name], array)
    assert found["d"].reason.startswith("d is a Dense: /model_weights/d/d has 'kernel:0' as a SoftLink")


def config(file, content):
    file.attrs["model_config"] = content


def nested(depth):
    """Write nested models as text, since json's own writer does not nest so deep."""
    return '{"class_name": "Sequential", "config": {"name": "a", "layers": [' * depth + "]}}" * depth


WHOLE = {
    "no JSON": (lambda f: config(f, b"{"), "m.h5 is damaged, or not as Keras writes it: JSONDecodeError"),
    "no text": (lambda f: config(f, b"\xff\xfe"), "m.h5 is damaged, .*(Unicode|JSON)DecodeError"),
    "a list": (lambda f: config(f, b"[1]"), "m.h5"),
    "a number": (lambda f: f.attrs.create("model_config", 7), "where strings are expected"),
    "several": (lambda f: config(f, [b"{}", b"{}"]), "has 2 strings in its attribute 'model_config'"),
    "layers that are none": (
        lambda f: config(f, json.dumps(sequential(1, "x")).encode()), "m.h5 is damaged, .*TypeError",
    ),
    "layers of one name": (
        lambda f: config(f, json.dumps(sequential(lstm_config("a"), lstm_config("a"))).encode()),
        "two layers of one name",
    ),
    "a depth without end": (lambda f: config(f, nested(100_000).encode()), "m.h5 is damaged, .*RecursionError"),
    "no weights": (lambda f: f.__delitem__("model_weights"), "has no 'model_weights'"),
    "weights elsewhere": (
        lambda f: put_link(f, "model_weights", h5py.ExternalLink("w.h5", "/")), "has 'model_weights' as a ExternalLink",
    ),
    "weights that are an array": (
        lambda f: (f.__delitem__("model_weights"), f.create_dataset("model_weights", data=[1.0])),
        "has no 'a' below it",
    ),
    "no layer": (lambda f: f["model_weights"].__delitem__("b"), "has no 'b': was the model built when it was saved"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_hostile_whole_models(name, files):
    change, match = WHOLE[name]
    with h5py.File(files[0], "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=match):
        convert.from_keras(files[0])


def test_a_file_that_asks_for_a_link_is_not_asked_elsewhere(files, tmp_path):
    """w.h5 has the target of the link. The control: HDF5 itself follows the link."""
    with h5py.File(files[0], "r+") as file:
        put_link(file["model_weights"], KERNEL, h5py.ExternalLink("w.h5", f"/{KERNEL}"))
    with h5py.File(files[0]) as file:
        assert file[f"model_weights/{KERNEL}"].shape == (D, 4 * H)
    with pytest.raises(ValueError, match="as a ExternalLink"):
        convert.from_keras(files[0])


def test_more_names_than_keras_writes(files):
    """The attribute has many references to one long string. Each reference would become a copy."""
    with h5py.File(files[1], "r+", libver="latest") as file:
        names = np.full(hdf5.STRINGS + 1, "x" * 1000, dtype=object)
        below = file.create_group("c", track_order=True)
        below.attrs.create("weight_names", names, dtype=h5py.string_dtype())
        file.attrs["layer_names"] = [b"a", b"b", b"c"]
    found = convert.keras_networks(files[1])
    assert "has 4097 values of dtype object as its attribute 'weight_names'" in found["c"].reason


def test_attributes_that_declare_too_much(files, monkeypatch):
    monkeypatch.setattr(hdf5, "LARGE", 10)
    monkeypatch.setattr(hdf5, "DENSE", 0)
    with pytest.raises(ValueError, match=r"attribute '\w+', declares \d+ bytes and holds \d+"):
        convert.from_keras(files[1])


@KINDS
def test_files_cut_short(kind, files, tmp_path):
    whole, bad = files[kind].read_bytes(), tmp_path / "bad.h5"
    for part in range(1, 40):
        bad.write_bytes(whole[: len(whole) * part // 40])
        with pytest.raises(ValueError, match=r"bad\.h5 is damaged, or not as Keras writes it"):
            convert.from_keras(bad)


MUTATE = """
import sys
from jax_lstm import convert
for path in sys.argv[1:]:
    print(path, end=" ", flush=True)
    try:
        convert.from_keras(path)
        convert.keras_networks(path)
        print("read", flush=True)
    except ValueError as error:
        print("refused" if path in str(error) else f"refused without its path: {error}", flush=True)
"""


@KINDS
def test_overwritten_bytes(kind, files, tmp_path):
    """HDF5 has no checksums here: some files are read as other numbers, and HDF5's own reader may crash on one.

    Therefore each file is read in another process. If this process does not crash, it gives a ValueError or numbers.
    """
    whole = files[kind].read_bytes()
    draw, paths = random.Random(0), []
    for number in range(60):
        content = bytearray(whole)
        for _ in range(draw.choice([1, 8, 64])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        paths.append(tmp_path / f"bad{number}.h5")
        paths[-1].write_bytes(content)
    told: dict[str, str] = {}
    left = list(map(str, paths))
    while left:
        run = subprocess.run([sys.executable, "-c", MUTATE, *left], capture_output=True, text=True, timeout=300)
        for line in run.stdout.splitlines():
            path, _, what = line.partition(" ")
            told[path] = what or f"crash {run.returncode}"
        assert run.returncode <= 0, run.stderr  # 0 or a signal; 1 would be an exception other than ValueError
        assert any(path in told for path in left), run.stderr
        left = [path for path in left if path not in told]
    kinds = [what.split()[0] for what in told.values()]
    assert set(told.values()) - {what for what in told.values() if what.startswith("crash")} <= {"read", "refused"}
    assert kinds.count("refused") > 10
    assert kinds.count("crash") < 10
