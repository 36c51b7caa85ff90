"""Requests of the Open Inference Protocol, made by hand from its text: the service's own code is not used."""

import json
import struct

import numpy as np

DATATYPES = {
    "BOOL": "?",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
# Two rows of the toy: margins 0 and 9.25.
ROWS = [[0.0, 0.0, 0.0, 0.0, 2.0], [10.0, 1.0, 1.0, 2.0, None]]
INSTANCES = [
    {"amount": 0, "hour": 0, "cross_border": 0, "entry_mode": "chip", "balance": 2},
    {"amount": 10, "hour": 1, "cross_border": True, "entry_mode": "online", "balance": None},
]
MARGINS = [0.0, 9.25]
FEATURES = ("amount", "hour", "cross_border", "entry_mode", "balance")


def raw(values, datatype):
    """The bytes of a tensor."""
    if datatype == "BYTES":
        encoded = [text if isinstance(text, bytes) else (text or "").encode() for text in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    return np.array(values, DATATYPES[datatype]).tobytes()


def tensor(name="X", values=ROWS, datatype="FP32", *, shape=None, binary=False, **fields):
    """An input, and the bytes that follow the JSON for it."""
    shape = list(np.shape(values)) if shape is None else shape
    given = {"name": name, "datatype": datatype, "shape": shape}
    if not binary:
        return given | {"data": values} | fields, b""
    data = raw(np.ravel(np.array(values, object)).tolist(), datatype)
    return given | {"parameters": {"binary_data_size": len(data)}} | fields, data


def named(*, binary=False, **changes):
    """One tensor for each feature of the toy; `changes` are (values, datatype) or None to leave one out."""
    columns = {name: ([row[index] for row in ROWS], "FP32") for index, name in enumerate(FEATURES)}
    columns["entry_mode"] = (["chip", "online"], "BYTES")
    columns |= changes
    return [
        tensor(name, given[0], given[1], binary=binary, shape=[len(given[0])])
        for name, given in columns.items()
        if given is not None
    ]


def body(*tensors, **fields):
    """(content, headers) of a request with these tensors."""
    head = json.dumps({"inputs": [given for given, _ in tensors]} | fields).encode()
    tail = b"".join(data for _, data in tensors)
    headers = {"inference-header-content-length": str(len(head))} if tail else {"content-type": "application/json"}
    return head + tail, headers


def infer(client, *tensors, model="toy", headers=None, **fields):
    """The response to `body(*tensors, **fields)`."""
    content, made = body(*tensors, **fields)
    return client.request("POST", f"/v2/models/{model}/infer", content=content, headers=made | (headers or {}))


def outputs(response):
    """{name: array, or list of texts} of a response, binary or not."""
    assert response.status_code == 200, response.text
    length = response.headers.get("inference-header-content-length")
    content = response.content
    head = json.loads(content if length is None else content[: int(length)])
    offset = None if length is None else int(length)
    found = {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = output["data"]
        elif output["datatype"] == "BYTES":
            values, end = [], offset + size
            while offset < end:
                (count,) = struct.unpack_from("<I", content, offset)
                values.append(content[offset + 4 : offset + 4 + count].decode())
                offset += 4 + count
        else:
            values = np.frombuffer(content[offset : offset + size], DATATYPES[output["datatype"]]).copy()
            offset += size
        if output["datatype"] != "BYTES":
            values = np.array(values, DATATYPES[output["datatype"]]).reshape(output["shape"])
        found[output["name"]] = values
    assert offset in (None, len(content))
    return found
