"""Tensors and arrays as a pickle describes them, and the functions that make them from a pickle's calls.

A `Tensor` is a window on a storage, whose bytes lie elsewhere in the file. Nothing is copied until
`crosscheck.studies.checkpoint.tensors` makes an array of it.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from crosscheck.studies.checkpoint.archives import Buffer
from crosscheck.studies.checkpoint.pickles import NAME_LENGTH, BadPickle, Global, Inert, Maker, Value, flat_key
from jax_lstm.convert.safetensors import DTYPES

Fetch: TypeAlias = Callable[[], Buffer]  # returns the bytes of a storage

# torch's classes of storages, with the dtype of NumPy or ml_dtypes
STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8",
    "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "int8", "QUInt8Storage": "uint8", "QInt32Storage": "int32",
}  # fmt: skip
_DTYPES = {name: np.dtype(name) for name in {*STORAGES.values(), *DTYPES.values()}}  # safetensors has torch's others
AXES = 32  # the most that arrays had before NumPy 2


@dataclass(frozen=True, eq=False)
class Storage:
    """``count`` numbers of one dtype, one after another. ``is_big_endian`` is the byte order in the file."""

    dtype: np.dtype
    fetch: Fetch
    count: int
    is_big_endian: bool


@dataclass(frozen=True, eq=False)
class Scheme:
    """How a tensor is quantized: its numbers are ``(integer - zero_point) * scale``.

    With an ``axis``, the scale and the zero point are tensors along it; without one, they are numbers.
    """

    scale: Value
    zero_point: Value
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A window on a storage, in elements, as ``torch._utils._rebuild_tensor_v2`` takes it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    conj: bool = False
    neg: bool = False
    scheme: Scheme | None = None

    def __post_init__(self) -> None:
        sizes = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or len(self.shape) > AXES:
            raise BadPickle(f"a tensor has {len(self.shape)} axes and {len(self.strides)} strides")
        if any(type(size) is not int or not 0 <= size < 2**63 for size in sizes):
            raise BadPickle("a tensor has a size that is no number of 63 bits")
        last = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        if self.elements and self.offset + last >= self.storage.count:
            raise BadPickle(f"a tensor of shape {self.shape} reaches beyond its storage of {self.storage.count}")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def is_converted(self) -> bool:
        """Whether the numbers are others than a view of the storage has."""
        return bool(self.storage.is_big_endian or self.scheme or self.conj or self.neg)


_NUMBERS = re.compile(r"[biufc]\d{1,2}")


@dataclass
class PickledDtype:
    """A dtype of NumPy by its name, such as "f4". A pickle sets its byte order as a state."""

    name: str
    order: Literal["<", ">", "="] = "="

    def resolve(self) -> np.dtype | None:
        """Return the dtype if it is a dtype of numbers, for which NumPy can make an array from any bytes."""
        if not isinstance(self.name, str) or not _NUMBERS.fullmatch(self.name):
            return None
        try:
            return np.dtype(self.name).newbyteorder(self.order)
        except TypeError:
            return None


class PickledArray:
    """A NumPy array. A pickle makes it empty and fills it with a state afterwards."""

    array: np.ndarray | None = None
    kind: str = "objects"  # what it holds, if it holds no numbers

    @property
    def is_converted(self) -> bool:
        """Whether the numbers are not in the byte order of this machine."""
        return self.array is not None and self.array.dtype.byteorder == ">"

    def fill(self, data: Value, dtype: Value, shape: Value, *, by_columns: bool = False) -> PickledArray:
        """Take the numbers from bytes. Without a dtype of numbers, or without bytes, ``array`` stays None."""
        resolved = dtype.resolve() if isinstance(dtype, PickledDtype) else None
        if resolved is None or not isinstance(data, (bytes, bytearray, str)):
            return self
        shape = tuple(shape)
        if isinstance(data, str):  # Python 2 had no bytes
            data = data.encode("latin-1")
        if len(shape) > AXES or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
            raise BadPickle("an array has a shape that is no list of sizes")
        if math.prod(shape) * resolved.itemsize != len(data):
            raise BadPickle(f"an array of shape {shape} has {len(data)} bytes")
        self.array = np.ndarray(shape, resolved, data, order="F" if by_columns else "C")
        return self


def storage_of(identity: Value, fetch: Callable[[str, int], Fetch], is_big_endian: bool) -> Storage | Inert:
    """Return the storage of torch's persistent id, ("storage", class, key, location, count, ...).

    A storage whose class has no dtype here, such as four-bit integers, becomes an `Inert`. ``fetch(key, size)``
    returns a function that returns the storage's bytes.
    """
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
        raise BadPickle("a persistent id is not a storage of torch's")
    _, kind, key, _, count = identity[:5]
    if not isinstance(kind, Global) or type(count) is not int or count < 0 or not is_key(key):
        raise BadPickle("the persistent id of a storage has no class, key or count")
    name = STORAGES.get(kind.name.rpartition(".")[2])
    if name is None or not kind.name.startswith("torch"):
        return Inert(kind.name)
    dtype = _DTYPES[name]
    return Storage(dtype, fetch(str(key), count * dtype.itemsize), count, is_big_endian)


def is_key(key: Value) -> bool:
    """Return whether this may be the key of a storage. Nothing else of a file is converted to text."""
    return (type(key) is str and len(key) <= NAME_LENGTH) or type(key) is int


def _tensor(args: Sequence[Value]) -> Value:
    storage, offset, shape, strides = args[:4]
    metadata = args[6] if len(args) > 6 and isinstance(args[6], dict) else {}
    if not isinstance(storage, Storage):
        return storage if isinstance(storage, Inert) else Inert("torch.Tensor", args)
    if not all(isinstance(sizes, (list, tuple)) and len(sizes) <= AXES for sizes in (shape, strides)):
        raise BadPickle("a tensor has a shape that is no list of sizes")
    conj, neg = (bool(metadata.get(name)) for name in ("conj", "neg"))
    return Tensor(storage, offset, tuple(shape), tuple(strides), conj, neg)


def _tensor_with_dtype(args: Sequence[Value]) -> Value:
    """Make a tensor as ``_rebuild_tensor_v3``: the storage is bytes, and the dtype is an argument."""
    dtype = _DTYPES.get(args[6].name.removeprefix("torch.")) if isinstance(args[6], Global) else None
    storage = args[0]
    if dtype is None or not isinstance(storage, Storage):
        return Inert("torch._utils._rebuild_tensor_v3", args)
    count = storage.count * storage.dtype.itemsize // dtype.itemsize
    return _tensor((replace(storage, dtype=dtype, count=count), *args[1:6], *args[7:]))


def _quantized(args: Sequence[Value]) -> Value:
    """Make a tensor as ``_rebuild_qtensor(storage, offset, size, stride, (kind, scale, zero_point[, axis]), ...)``."""
    kind, *values = args[4]
    name = kind.name if isinstance(kind, Global) else ""
    if name == "torch.per_tensor_affine" and all(isinstance(value, (int, float)) for value in values):
        scheme = Scheme(*values)
    elif name == "torch.per_channel_affine" and all(isinstance(value, Tensor) for value in values[:2]):
        scheme = Scheme(values[0], values[1], values[2])
    else:
        return Inert(f"torch._utils._rebuild_qtensor ({name})", args)
    tensor = _tensor(args[:4])
    return replace(tensor, scheme=scheme) if isinstance(tensor, Tensor) else tensor


def _of_subclass(args: Sequence[Value]) -> Value:
    """Make what the function of ``_rebuild_from_type_v2(function, type, args, state)`` makes, without the subclass."""
    maker = MAKERS.get(args[0].name) if isinstance(args[0], Global) else None
    return maker(args[2]) if maker else Inert(args[1].name if isinstance(args[1], Global) else "a tensor", args)


def _mapping(args: Sequence[Value]) -> Value:
    given = args[-1] if args else ()
    if isinstance(given, dict):
        return dict(given)
    if isinstance(given, (list, tuple)) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in given):
        return {flat_key(key, number): value for number, (key, value) in enumerate(given)}
    return {}


def _sequence(args: Sequence[Value]) -> list[Value]:
    return list(args[0]) if args and isinstance(args[0], (list, tuple)) else []


def _object(args: Sequence[Value]) -> Inert:
    """Keep ``copyreg._reconstructor(class, base, state)``. The state of a subclass of dict or list is its content."""
    result = Inert(args[0].name if isinstance(args[0], Global) else "an object")
    if isinstance(args[2], dict):
        result.entries.update(args[2])
    elif isinstance(args[2], (list, tuple)):
        result.items.extend(args[2])
    return result


def _encoded(args: Sequence[Value]) -> bytes:
    """Make bytes as ``_codecs.encode(text, "latin1")``: protocol 2 writes them so."""
    if len(args) != 2 or not isinstance(args[1], str) or args[1] not in ("latin1", "latin-1"):
        raise BadPickle("bytes are in another encoding than latin1")
    return codecs.encode(args[0], "latin-1")


def _no_bytes(args: Sequence[Value]) -> bytes:
    """Make ``bytes()``: protocol 2 writes empty bytes so."""
    if args:
        raise BadPickle("bytes are made of something else than text")
    return b""


def _numpy_scalar(args: Sequence[Value]) -> PickledArray:
    return PickledArray().fill(args[1] if len(args) > 1 else None, args[0], ())


def _numpy_array(args: Sequence[Value]) -> PickledArray:
    """Make an array as ``_frombuffer(bytes, dtype, shape, order)``: protocol 5 writes arrays so."""
    data, dtype, shape, order = args
    return PickledArray().fill(data, dtype, shape, by_columns=order == "F")


def set_state(value: Value, state: Value) -> None:
    """Set the state of an array, (version, shape, dtype, by columns, bytes), or a dtype, (version, byte order, ...).

    The state of a tensor, which is Python attributes, is ignored. TypeError for any other value.
    """
    if isinstance(value, PickledArray):
        _, shape, dtype, by_columns, data = state
        if isinstance(dtype, PickledDtype) and isinstance(dtype.name, str) and not dtype.name.startswith("O"):
            value.kind = f"dtype {dtype.name[:20]}"
        value.fill(data, dtype, shape, by_columns=bool(by_columns))
    elif isinstance(value, PickledDtype) and isinstance(state, tuple) and len(state) > 1:
        value.order = state[1] if state[1] in (">", "<") else "="
    elif not isinstance(value, Tensor):
        raise TypeError


_FIRST = (
    "torch._utils._rebuild_device_tensor_from_numpy",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.nn.parameter.Parameter",
    "torch.jit._pickle.restore_type_tag",
    *(f"torch.jit._pickle.build_{kind}list" for kind in ("tensor", "int", "double", "bool")),
)
_NUMPY = ("numpy.core", "numpy._core")
_BUILTINS = ("builtins", "__builtin__")
MAKERS: dict[str, Maker] = {
    **dict.fromkeys(_FIRST, lambda args: args[0]),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_with_dtype,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._tensor._rebuild_from_type": _of_subclass,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
    "torch.Size": lambda args: tuple(_sequence(args)),
    **{f"collections.{name}": _mapping for name in ("OrderedDict", "defaultdict", "Counter")},
    **{f"{home}.{name}": _sequence for home in _BUILTINS for name in ("set", "frozenset")},
    **{f"{home}.bytes": _no_bytes for home in _BUILTINS},
    **{f"{home}._reconstructor": _object for home in ("copyreg", "copy_reg")},
    "_codecs.encode": _encoded,
    "numpy.dtype": lambda args: PickledDtype(args[0]),
    **{f"{home}.multiarray._reconstruct": lambda args: PickledArray() for home in _NUMPY},
    **{f"{home}.multiarray.scalar": _numpy_scalar for home in _NUMPY},
    **{f"{home}.numeric._frombuffer": _numpy_array for home in _NUMPY},
}
