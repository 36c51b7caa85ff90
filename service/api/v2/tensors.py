"""Tensors of the protocol <-> NumPy arrays: as JSON, flat or nested, and as bytes. Knows no model.

What a tensor claims is compared with what is there before anything is made of it; messages name its place in the
request and never repeat what it holds.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidRequest, TooManyInstances

Values = NDArray[Any]
Texts = list[str | None]

# Little-endian on the wire.
NUMERIC = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
DATATYPES = (*NUMERIC, "BYTES")
DATATYPE_OF = {dtype.newbyteorder("="): name for name, dtype in NUMERIC.items()}
LENGTH = struct.Struct("<I")
# Types of JSON values -> datatypes that they fit; null is a missing value of a floating-point or BYTES tensor.
FITTING: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float, type(None)}}


class Tensor(NamedTuple):
    """One input: its place in the request, its name, its shape `(n,)` or `(n, m)`, its values flat.

    Values are an array of the datatype's dtype, or texts where the datatype is BYTES.
    """

    where: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Values | Texts

    @property
    def rows(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    @property
    def columns(self) -> int:
        """Length of the second axis; 1 if there is none."""
        return self.shape[1] if len(self.shape) == 2 else 1


def read_tensors(inputs: Any, binary: memoryview, *, most: int, max_rows: int) -> list[Tensor]:
    """The `inputs` of a request; `binary` is what follows its JSON. At most `most` tensors of `max_rows` rows.

    Raises InvalidRequest or TooManyInstances.
    """
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= most:
        raise InvalidRequest("inputs", f"a list of 1 to {most} tensors is expected")
    tensors: list[Tensor] = []
    names: set[str] = set()
    offset = 0
    for index, given in enumerate(inputs):
        where = f"inputs[{index}]"
        if not isinstance(given, dict):
            raise InvalidRequest(where, "an object is expected")
        name, datatype = given.get("name"), given.get("datatype")
        if not isinstance(name, str):
            raise InvalidRequest(f"{where}.name", "a string is expected")
        if name in names:
            raise InvalidRequest(f"{where}.name", "each input may stand in a request once")
        names.add(name)
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise InvalidRequest(f"{where}.datatype", f"one of {', '.join(DATATYPES)} is expected")
        shape = _shape(given.get("shape"), where, max_rows)
        size = _binary_size(given, where)
        if size is None:
            values = _from_json(given.get("data"), datatype, shape, where)
        else:
            if size > len(binary) - offset:
                raise InvalidRequest(where, "binary_data_size is more than the body holds")
            values = _from_bytes(binary[offset : offset + size], datatype, shape, where)
            offset += size
        tensors.append(Tensor(where, name, datatype, shape, values))
    if offset != len(binary):
        raise InvalidRequest("body", "it holds more than the JSON and the tensors of binary_data_size")
    return tensors


def _shape(shape: Any, where: str, max_rows: int) -> tuple[int, ...]:
    if not isinstance(shape, list) or len(shape) not in (1, 2) or not all(type(n) is int and n >= 1 for n in shape):
        raise InvalidRequest(f"{where}.shape", "one or two positive whole numbers are expected, rows first")
    if shape[0] > max_rows:
        raise TooManyInstances(f"{where}.shape: at most {max_rows} rows are accepted")
    return tuple(shape)


def _binary_size(given: dict[str, Any], where: str) -> int | None:
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidRequest(f"{where}.parameters", "an object is expected")
    if "shared_memory_region" in parameters:
        raise InvalidRequest(f"{where}.parameters", "shared memory is not offered")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"{where}.parameters.binary_data_size", "a number of bytes is expected")
    if given.get("data") is not None:
        raise InvalidRequest(where, "either data or binary_data_size is expected")
    return size


def _count(shape: Sequence[int]) -> int:
    return shape[0] * shape[1] if len(shape) == 2 else shape[0]


def _from_json(data: Any, datatype: str, shape: tuple[int, ...], where: str) -> Values | Texts:
    if not isinstance(data, list):
        raise InvalidRequest(f"{where}.data", "a list of values is expected")
    refusal = InvalidRequest(f"{where}.data", "as many values as the shape says are expected, flat or nested like it")
    if data and isinstance(data[0], list):
        if len(data) != shape[0] or len(shape) == 1:
            raise refusal
        if not all(type(row) is list and len(row) == shape[1] for row in data):
            raise refusal
        data = list(chain.from_iterable(data))
    if len(data) != _count(shape):
        raise refusal
    types = set(map(type, data))
    if datatype == "BYTES":
        if not types <= {str, type(None)}:
            raise InvalidRequest(f"{where}.data", "strings are expected, as the datatype says")
        texts: Texts = data
        return texts
    dtype = NUMERIC[datatype]
    try:
        if types <= FITTING[dtype.kind]:
            with np.errstate(over="ignore"):  # the largest become infinite, which no feature takes
                return np.array(data, np.float64 if dtype.kind == "f" else dtype).astype(dtype)
    except OverflowError:
        pass
    raise InvalidRequest(f"{where}.data", f"values of the datatype {datatype} are expected")


def _from_bytes(data: memoryview, datatype: str, shape: tuple[int, ...], where: str) -> Values | Texts:
    count = _count(shape)
    if datatype == "BYTES":
        return _texts(data, count, where)
    dtype = NUMERIC[datatype]
    if len(data) != count * dtype.itemsize:
        raise InvalidRequest(where, "binary_data_size is not what shape and datatype take")
    if dtype.kind == "b":  # any other byte would be a bool that is neither
        return np.not_equal(np.frombuffer(data, np.uint8), 0)
    return np.frombuffer(data, dtype)


def _texts(data: memoryview, count: int, where: str) -> Texts:
    """Strings, each after its length in four bytes; an empty one is a missing value."""
    refusal = InvalidRequest(where, "strings of UTF-8, each after its length in four bytes, are expected as shape says")
    if len(data) < LENGTH.size * count:
        raise refusal
    texts: Texts = []
    offset = 0
    for _ in range(count):
        if len(data) - offset < LENGTH.size:
            raise refusal
        start = offset + LENGTH.size
        offset = start + LENGTH.unpack_from(data, offset)[0]
        if offset > len(data):
            raise refusal
        try:
            texts.append(str(data[start:offset], "utf-8") or None)
        except UnicodeDecodeError:
            raise refusal from None
    if offset != len(data):
        raise refusal
    return texts


def as_float32(tensor: Tensor) -> NDArray[np.float32]:
    """A numeric tensor's values as float32, in memory of their own. Raises InvalidRequest where that is not exact."""
    assert isinstance(tensor.values, np.ndarray)
    values = tensor.values
    with np.errstate(over="ignore", invalid="ignore"):
        X = values.astype(np.float32)
        if values.dtype.kind in "iu":
            # What rounds up to 2**63 cannot be cast back; it is no value of the datatype, so it was not exact.
            beyond = 2.0 ** (8 * values.dtype.itemsize - (values.dtype.kind == "i"))
            fits = np.less(X, beyond)
            exact = bool(np.all(fits & (np.where(fits, X, 0).astype(values.dtype) == values)))
        elif values.dtype == np.float64:
            exact = bool(np.all((values == X) | np.isnan(values)))
        else:
            exact = True
    if not exact:
        raise InvalidRequest(tensor.where, f"{tensor.datatype} values that FP32 holds exactly are expected; send FP32")
    return X


def datatype_of(values: Values | Sequence[str]) -> str:
    """The protocol's name of what `values` are."""
    return DATATYPE_OF[values.dtype] if isinstance(values, np.ndarray) else "BYTES"


def to_json(values: Values | Sequence[str]) -> list[Any]:
    """Flat JSON values; NaN is null."""
    if not isinstance(values, np.ndarray):
        return list(values)
    flat: list[Any] = values.ravel().tolist()
    if values.dtype.kind == "f" and np.isnan(values).any():
        return [None if number != number else number for number in flat]
    return flat


def to_bytes(values: Values | Sequence[str]) -> bytes:
    """The same as the binary extension has it."""
    if isinstance(values, np.ndarray):
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    encoded = [text.encode() for text in values]
    return b"".join(chain.from_iterable((LENGTH.pack(len(text)), text) for text in encoded))
