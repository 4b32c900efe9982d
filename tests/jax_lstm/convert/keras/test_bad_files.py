"""Files that are damaged, not Keras's or harmful: one clear error. No code or link in them is run or followed."""

from __future__ import annotations

import json
import os
import random
import sys
import zipfile

import numpy as np
import pytest

from jax_lstm import convert
from jax_lstm.convert.keras import hdf5
from tests.support.keras_files import put_external, put_link, put_virtual
from tests.support.keras_layers import QUIET, drawn, keras
from tests.support.requirements import need

pytestmark = QUIET
h5py = need("h5py")
L = keras.layers
D, H = 3, 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    model = drawn(keras.Sequential([keras.Input((None, D)), L.LSTM(H, name="a")]))
    model.save(folder / "a.keras")
    model.save_weights(folder / "a.weights.h5")
    return folder / "a.keras", folder / "a.weights.h5"


def rewritten(archive, path, change):
    """Write the archive with changed members, which are a dict of bytes."""
    with zipfile.ZipFile(archive) as old:
        members = {name: old.read(name) for name in old.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return path


def test_no_file_of_keras_s(files, tmp_path, monkeypatch):
    for name, content, match in (
        ("a.keras", b"", r"a.keras: must be a .keras, .weights.h5, .h5 or .hdf5 file of Keras's, and begins like neit"),
        ("a.h5", b"no HDF5 file", "a.h5: must be a .keras, .* and begins like neither a zip archive nor an HDF5 file"),
        ("a.pt", b"PK\3\4 no archive", "a.pt is damaged, or not as Keras writes it: BadZipFile"),
        ("a.keras", b"\x89HDF\r\n\x1a\n no HDF5 file", "a.keras is damaged, or not as Keras writes it: OSError"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=match):
            convert.from_keras(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"none\.keras"):
        convert.from_keras(tmp_path / "none.keras")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(IsADirectoryError, match=r"folder\.keras"):
        convert.from_keras(tmp_path / "folder.keras")
    monkeypatch.setitem(sys.modules, "h5py", None)
    for file in files:
        with pytest.raises(ImportError, match=r"needs h5py to be read: pip install 'jax-lstm\[files\]'"):
            convert.from_keras(file)


def test_archives_that_lack_or_mix_things(files, tmp_path):
    def rename(members):
        members["config.json"] = members["config.json"].replace(b'"a"', b'"b"')

    def nonsense(members):
        members["config.json"] = b'{"module": "keras", "class_name": "Sequential", "config": {"layers": [1, 2]}}'

    def biased(members):
        members["config.json"] = members["config.json"].replace(b'"use_bias": true', b'"use_bias": false')

    for change, match in (
        (lambda m: m.pop("config.json"), r"must be a .*, and lacks config.json\."),
        (lambda m: m.pop("model.weights.h5"), "lacks model.weights.h5"),
        (lambda m: m.update({"config.json": b"{"}), "is damaged.*JSONDecodeError"),
        (lambda m: m.update({"config.json": b"[]"}), "x.keras"),
        (lambda m: m.update({"config.json": b"\xff\xfe\xfd"}), "is damaged.*UnicodeDecodeError"),
        (lambda m: m.update({"model.weights.h5": b"x"}), "is damaged"),
        (rename, "has the weights of 'a', where the configuration has 'b'"),
        (nonsense, "is damaged.*TypeError"),
        (biased, "has use_bias=False and 3 weights, which do not agree"),
    ):
        with pytest.raises(ValueError, match=match):
            convert.from_keras(rewritten(files[0], tmp_path / "x.keras", change))


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_a_model_that_was_not_built(tmp_path):
    keras.Sequential([L.LSTM(H, name="a")]).save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match="a has no weights yet: build the layer or model"):
        convert.from_keras(tmp_path / "a.keras")


@pytest.mark.parametrize("kind", [0, 1], ids=["keras", "weights.h5"])
def test_files_cut_short(files, kind, tmp_path):
    whole, bad = files[kind].read_bytes(), tmp_path / files[kind].name
    for part in range(1, 40):
        bad.write_bytes(whole[: len(whole) * part // 40])
        with pytest.raises(ValueError, match=f"{bad.name} is damaged, or not as Keras writes it"):
            convert.from_keras(bad)


def test_overwritten_bytes_of_an_archive_are_seen_or_harmless(files, tmp_path):
    """An archive's members have checksums. A .weights.h5 file has none, and HDF5's own reader may crash on one."""
    wanted, bad = convert.from_keras(files[0]), tmp_path / files[0].name
    draw = random.Random(0)
    refused = 0
    for _ in range(100):
        content = bytearray(files[0].read_bytes())
        for _ in range(draw.choice([1, 8, 64])):
            content[draw.randrange(len(content))] = draw.randrange(256)
        bad.write_bytes(content)
        try:
            params = convert.from_keras(bad)
        except ValueError as error:
            assert str(bad) in str(error)  # noqa: PT017
            refused += 1
        else:
            for name, array in wanted.items():
                np.testing.assert_array_equal(params[name], array)
    assert refused > 40


KERNEL = "layers/lstm/cell/vars/0"


def huge(file):
    del file["layers/lstm/cell/vars"]
    for name, shape in (("0", (2**20, 2**26)), ("1", (2**24, 2**26)), ("2", (2**26,))):
        file.create_dataset(f"layers/lstm/cell/vars/{name}", shape, "f4", chunks=(1,) * len(shape), compression="gzip")


def endless(file):
    file["layers/lstm/cell/again"] = file["layers/lstm"]


HOSTILE = {
    "soft link": (lambda file: put_link(file, KERNEL, h5py.SoftLink("/elsewhere")), "has '0' as a SoftLink"),
    "external link": (
        lambda file: put_link(file, KERNEL, h5py.ExternalLink("/etc/passwd", "/a")),
        "has '0' as a ExternalLink",
    ),
    "external data": (lambda g: put_external(g, KERNEL, (D, 4 * H)), "lies in another file"),
    "virtual data": (lambda g: put_virtual(g, KERNEL, (D, 4 * H)), "lies in another file"),
    "declares terabytes": (huge, "declares 281474976710656 bytes and holds 0"),
    "a group within itself": (endless, "is damaged.*RecursionError"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_weights(name, files, tmp_path):
    change, match = HOSTILE[name]
    path = tmp_path / "a.weights.h5"
    path.write_bytes(files[1].read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=match):
        convert.from_keras(path)
    archive = rewritten(files[0], tmp_path / "a.keras", lambda m: m.update({"model.weights.h5": path.read_bytes()}))
    if name != "a group within itself":  # the reader ignores this if there is a configuration
        with pytest.raises(ValueError, match=match):
            convert.from_keras(archive)


def test_an_archive_that_unpacks_to_more_than_it_holds(files, tmp_path, monkeypatch):
    """The limit is lowered to a megabyte to save time."""
    monkeypatch.setattr(hdf5, "LARGE", 2**20)
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(files[0]) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("config.json", old.read("config.json"))
        new.writestr("model.weights.h5", bytes(2**23))
    with pytest.raises(ValueError, match=r"model\.weights\.h5 declares 8388608 bytes and holds"):
        convert.from_keras(path)


def test_a_configuration_that_runs_in_circles(files, tmp_path):
    """Two layers of Dropout that read each other, below an LSTM."""
    call = lambda name: [{"args": [{"config": {"keras_history": [name, 0, 0]}}], "kwargs": {}}]
    layer = lambda kind, name, reads: {
        "module": "keras.layers", "class_name": kind, "config": {"name": name}, "inbound_nodes": call(reads)
    }  # fmt: skip

    def circles(members):
        config = json.loads(members["config.json"])
        lstm = config["config"]["layers"][-1] | {"inbound_nodes": call("y")}
        config["class_name"] = "Functional"
        config["config"]["layers"] = [layer("Dropout", "x", "y"), layer("Dropout", "y", "x"), lstm]
        members["config.json"] = json.dumps(config).encode()

    assert convert.from_keras(rewritten(files[0], tmp_path / "a.keras", circles))["weight_hh_l0"].shape == (16, 4)


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_code_in_a_file_is_not_run(tmp_path):
    """A Lambda layer makes a folder. The control: Keras runs it if the user tells it to trust the file."""
    trap = str(tmp_path / "trap")
    evil = L.Lambda(lambda x: (__import__("os").makedirs(trap, exist_ok=True), x)[1], output_shape=(None, D))
    keras.Sequential([keras.Input((None, D)), evil, L.LSTM(H, name="a")]).save(tmp_path / "a.keras")
    assert "weight_ih_l0" in convert.from_keras(tmp_path / "a.keras")
    assert not os.path.exists(trap)
    keras.saving.load_model(tmp_path / "a.keras", safe_mode=False)(np.zeros((1, 2, D)))
    assert os.path.exists(trap)
