"""Model packages small enough to check by hand, written as files: what the tests serve.

Knows the package contract from the outside (plain JSON and ONNX), not the service's own classes.

    toy      binary; margin = amount/2 + hour/4 + 2 cross_border + entry_mode + 2 balance - 4;
             a missing balance counts as 2
    trio     three classes 10, 20, 30; margin = (x, y, 0)
    brittle  binary; margin = TABLE[slot]; ONNX Runtime raises where the slot lies outside the table
    leaky    binary; margin = x; rows with a negative x are lost
    slow     binary; margin = level; a run takes longer the more turns a row asks for, and never less than 1 ms
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

OPSET = 17
IR_VERSION = 9
TABLE = [0.0, 1.0, -1.0, 2.0]
# What every run of `slow` does at least: some milliseconds, so that the batcher takes it off the event loop.
FEWEST_TURNS = 4000

# The margin of this row is 0, so its probability is 0.5.
ROW = {"amount": 0, "hour": 0, "cross_border": 0, "entry_mode": "chip", "balance": 2}

TOY_FEATURES = [
    {"name": "amount", "kind": "numeric", "unit": "EUR", "minimum": 0, "maximum": 1000, "description": "What is paid."},
    {"name": "hour", "kind": "integer", "minimum": 0, "maximum": 23},
    {"name": "cross_border", "kind": "binary"},
    {"name": "entry_mode", "kind": "categorical", "categories": ["chip", "contactless", "online"]},
    {"name": "balance", "kind": "numeric", "nullable": True},
]
SENSITIVE_FEATURES = [
    {"name": "sex", "groups": ["female", "male"], "reference_group": "male"},
    {"name": "age_band", "groups": ["18-29", "30-49", "50+"], "reference_group": "30-49"},
]


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(nodes, constants, *, width, classes, rows="n", margins=None):
    """The bytes of an ONNX model with the contract's signature: X `(rows, width)` -> margin, probability."""
    margins = margins or (1 if classes == 2 else classes)
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [rows, width])],
        [
            helper.make_tensor_value_info("margin", TensorProto.FLOAT, [rows, margins]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, [rows, classes]),
        ],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(made)
    return made.SerializeToString()


# margin -> probability of (negative, positive)
LOGIT = [
    helper.make_node("Sigmoid", ["margin"], ["positive"]),
    helper.make_node("Sub", ["one", "positive"], ["negative"]),
    helper.make_node("Concat", ["negative", "positive"], ["probability"], axis=1),
]
ONE = constant("one", [1.0])


def toy_model(*, bias=-4.0, rows="n", width=5):
    weights = [0.5, 0.25, 2.0, 1.0, 2.0] + [0.0] * (width - 5)
    return model(
        [
            helper.make_node("IsNaN", ["X"], ["missing"]),
            helper.make_node("Where", ["missing", "two", "X"], ["filled"]),
            helper.make_node("MatMul", ["filled", "weights"], ["sum"]),
            helper.make_node("Add", ["sum", "bias"], ["margin"]),
            *LOGIT,
        ],
        [constant("two", 2.0), constant("weights", [[weight] for weight in weights]), constant("bias", [bias]), ONE],
        width=width,
        classes=2,
        rows=rows,
    )


def trio_model():
    return model(
        [
            helper.make_node("MatMul", ["X", "pick"], ["margin"]),
            helper.make_node("Softmax", ["margin"], ["probability"], axis=1),
        ],
        [constant("pick", [[1, 0, 0], [0, 1, 0]])],
        width=2,
        classes=3,
    )


def brittle_model():
    return model(
        [
            helper.make_node("Cast", ["X"], ["slot"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["slot", "flat"], ["index"]),
            helper.make_node("Gather", ["table", "index"], ["margin"], axis=0),
            *LOGIT,
        ],
        [constant("flat", [-1], np.int64), constant("table", [[value] for value in TABLE]), ONE],
        width=1,
        classes=2,
    )


def model_of_three_classes():
    """The toy's features and a class too many."""
    return model(
        [
            helper.make_node("MatMul", ["X", "pick"], ["margin"]),
            helper.make_node("Softmax", ["margin"], ["probability"], axis=1),
        ],
        [constant("pick", np.eye(5, 3))],
        width=5,
        classes=3,
    )


def unrunnable_model():
    """A graph that looks right and fails on every row: it looks up index 7 of 4."""
    return model(
        [
            helper.make_node("ReduceSum", ["X", "columns"], ["sum"], keepdims=1),
            helper.make_node("Mul", ["sum", "zero"], ["nought"]),
            helper.make_node("Add", ["nought", "seven"], ["far"]),
            helper.make_node("IsNaN", ["far"], ["missing"]),
            helper.make_node("Where", ["missing", "seven", "far"], ["outside"]),
            helper.make_node("Cast", ["outside"], ["slot"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["slot", "flat"], ["index"]),
            helper.make_node("Gather", ["table", "index"], ["margin"], axis=0),
            *LOGIT,
        ],
        [
            constant("columns", [1], np.int64),
            constant("zero", 0.0),
            constant("seven", 7.0),
            constant("flat", [-1], np.int64),
            constant("table", [[value] for value in TABLE]),
            ONE,
        ],
        width=5,
        classes=2,
    )


def leaky_model():
    return model(
        [
            helper.make_node("Reshape", ["X", "flat"], ["x"]),
            helper.make_node("Greater", ["x", "below"], ["kept"]),
            helper.make_node("Compress", ["X", "kept"], ["margin"], axis=0),
            *LOGIT,
        ],
        [constant("flat", [-1], np.int64), constant("below", 0.0), ONE],
        width=1,
        classes=2,
    )


def slow_model():
    turn = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Abs", ["idle"], ["idled"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("idle", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("idled", TensorProto.FLOAT, [1]),
        ],
    )
    return model(
        [
            helper.make_node("Split", ["X"], ["level", "turns"], axis=1),
            helper.make_node("ReduceMax", ["turns"], ["most"], keepdims=0),
            helper.make_node("Add", ["most", "fewest"], ["count"]),
            helper.make_node("Cast", ["count"], ["trips"], to=TensorProto.INT64),
            helper.make_node("Loop", ["trips", "true", "zero"], ["idle"], body=turn),
            helper.make_node("Add", ["level", "idle"], ["margin"]),
            *LOGIT,
        ],
        [
            constant("fewest", FEWEST_TURNS),
            constant("true", True, np.bool_),
            constant("zero", [0.0]),
            ONE,
        ],
        width=2,
        classes=2,
    )


def golden(model_bytes, rows):
    """golden.json for `rows` (None where missing), with the answers ONNX Runtime gives now."""
    session = onnxruntime.InferenceSession(model_bytes, providers=["CPUExecutionProvider"])
    margin, probability = session.run(["margin", "probability"], {"X": np.array(rows, np.float32)})
    return {"rows": rows, "margin": margin.tolist(), "probability": probability.tolist()}


def digest(path):
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def seal(folder, **changes):
    """Write the manifest anew with `changes` (None removes a key) and with the digests of the files as they are."""
    path = folder / "manifest.json"
    manifest = (json.loads(path.read_text()) if path.exists() else {}) | changes
    files = sorted(file for file in folder.iterdir() if file.name != "manifest.json")
    manifest["digests"] = {file.name: digest(file) for file in files} | changes.get("digests", {})
    path.write_text(json.dumps({key: value for key, value in manifest.items() if value is not None}))


def write(folder, model_bytes, golden_rows, **manifest):
    """Write one package into `folder`, which is `.../NAME/VERSION`, and return the folder."""
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model_bytes)
    (folder / "golden.json").write_text(json.dumps(golden(model_bytes, golden_rows)))
    (folder / "card.md").write_text(f"# {folder.parent.name} {folder.name}\n\nBuilt in a test, for a test: größer?\n")
    seal(
        folder,
        **{
            "name": folder.parent.name,
            "version": folder.name,
            "task": "binary",
            "link": "logit",
            "created_at": "2026-11-22T00:00:00Z",
            "description": "A toy.",
            "classes": ["legitimate", "fraud"],
            "positive_class": "fraud",
            "favourable_outcome": "legitimate",
            "threshold": 0.5,
            "provenance": {"seed": 7, "data_fingerprint": "none"},
        }
        | manifest,
    )
    return folder


GOLDEN_ROWS = [
    [0.0, 0.0, 0.0, 0.0, 2.0],
    [10.0, 12.0, 1.0, 1.0, None],
    [999.5, 23.0, 0.0, 2.0, -400.0],
    [0.0, 0.0, 1.0, 2.0, 0.0],
]


def write_toy(root, *, version=1, name="toy", bias=-4.0, **manifest):
    about = {"features": TOY_FEATURES, "sensitive_features": SENSITIVE_FEATURES} | manifest
    return write(Path(root) / name / str(version), toy_model(bias=bias), GOLDEN_ROWS, **about)


def write_trio(root):
    return write(
        Path(root) / "trio" / "1",
        trio_model(),
        [[0.0, 0.0], [1.0, -1.0], [-2.0, 3.0]],
        task="multiclass",
        link="softmax",
        classes=[10, 20, 30],
        positive_class=None,
        favourable_outcome=None,
        threshold=None,
        features=[{"name": "x", "kind": "numeric"}, {"name": "y", "kind": "numeric"}],
    )


def write_brittle(root):
    slot = {"name": "slot", "kind": "integer", "minimum": 0, "maximum": 10_000_000}
    return write(Path(root) / "brittle" / "1", brittle_model(), [[0.0], [1.0], [2.0], [3.0]], features=[slot])


def write_leaky(root):
    return write(Path(root) / "leaky" / "1", leaky_model(), [[1.0], [2.0]], features=[{"name": "x", "kind": "numeric"}])


def write_slow(root):
    turns = {"name": "turns", "kind": "integer", "minimum": 0, "maximum": 10_000_000}
    features = [{"name": "level", "kind": "numeric"}, turns]
    return write(Path(root) / "slow" / "1", slow_model(), [[0.0, 0.0], [1.0, 0.0]], features=features)


def write_all(root):
    """Every toy, `toy` in versions 9 and 10: with a bias of -4 in 10 and of -5 in 9."""
    write_toy(root, version=9, bias=-5.0)
    write_toy(root, version=10)
    write_trio(root)
    write_brittle(root)
    write_slow(root)
    return root


def request(*changes, **fields):
    """A request to `toy` with one instance per dictionary of changes to ROW (one plain ROW if there is none)."""
    return {"instances": [ROW | change for change in changes or ({},)]} | fields
