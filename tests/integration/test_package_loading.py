"""Packages that break their contract are refused with the reason and make the service unready; others are served."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import toy


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def manifest(change):
    """A breakage of manifest.json alone."""
    return lambda folder: change_json(folder / "manifest.json", change)


def sealed(**changes):
    """A breakage of the manifest's other fields, with digests that fit."""
    return lambda folder: toy.seal(folder, **changes)


def golden(change):
    """A breakage of golden.json, with digests that fit."""

    def breakage(folder):
        change_json(folder / "golden.json", change)
        toy.seal(folder)

    return breakage


def golden_row(column, value):
    """A first golden row that the manifest does not allow, with the graph's own answers."""

    def breakage(folder):
        rows = [list(toy.GOLDEN_ROWS[0]), *toy.GOLDEN_ROWS[1:]]
        rows[0][column] = value
        (folder / "golden.json").write_text(json.dumps(toy.golden(toy.toy_model(), rows)))
        toy.seal(folder)

    return breakage


def model(content):
    """Another model.onnx, with digests that fit."""

    def breakage(folder):
        (folder / "model.onnx").write_bytes(content())
        toy.seal(folder)

    return breakage


def edited(change):
    """The toy's model with its ModelProto edited."""

    def content():
        proto = onnx.load_from_string(toy.toy_model())
        change(proto)
        return proto.SerializeToString()

    return model(content)


def file(name, content):
    """Another file, with digests that fit."""

    def breakage(folder):
        (folder / name).write_bytes(content)
        toy.seal(folder)

    return breakage


def append(name):
    """A file that is no longer the one that was packaged."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes() + b"\n")


def rename_input(proto):
    proto.graph.input[0].name = "rows"
    for node in proto.graph.node:
        node.input[:] = ["rows" if name == "X" else name for name in node.input]


def fix_rows(proto):
    """Inside the graph, where its signature does not show it: only as many rows as there are golden ones."""
    proto.graph.initializer.append(toy.constant("four_rows", [4, 5], np.int64))
    proto.graph.node[0].input[0] = proto.graph.node[1].input[2] = "fixed"
    proto.graph.node.insert(0, onnx.helper.make_node("Reshape", ["X", "four_rows"], ["fixed"]))


def set_cell(table, value):
    return lambda content: content[table][0].__setitem__(0, value)


BROKEN = {
    "digest of the model": (append("model.onnx"), "model.onnx is not the file that was packaged"),
    "digest of the golden rows": (append("golden.json"), "golden.json is not the file"),
    "digest of the card": (append("card.md"), "card.md is not the file"),
    "no model file": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx cannot be read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
    "manifest is not JSON": (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: "),
    "manifest lacks a key": (manifest(lambda content: content.pop("features")), "manifest.json: features"),
    "manifest has a misspelt key": (manifest(lambda content: content.update(treshold=1)), "manifest.json: treshold"),
    "manifest of another name": (sealed(name="other"), "manifest.json is that of other/2"),
    "manifest of another version": (sealed(version="3"), "manifest.json is that of broken/3"),
    "version that is no number": (sealed(version="02"), "manifest.json: version"),
    "threshold out of range": (sealed(threshold=1.5), "manifest.json: threshold"),
    "positive class unknown": (sealed(positive_class="theft"), "positive_class must be one of classes"),
    "classes repeat": (sealed(classes=["fraud", "fraud"]), "manifest.json: classes"),
    "reserved group": (
        sealed(sensitive_features=[{"name": "sex", "groups": ["other"], "reference_group": "other"}]),
        "reserved group names: other",
    ),
    "a feature twice": (sealed(features=[toy.TOY_FEATURES[0]] * 5), "repeat the name"),
    "minimum above maximum": (
        sealed(features=[toy.TOY_FEATURES[0] | {"minimum": 2000}, *toy.TOY_FEATURES[1:]]),
        "minimum must not exceed maximum",
    ),
    "digest outside the package": (sealed(digests={"../1/model.onnx": f"sha256:{'0' * 64}"}), "of the package only"),
    "digest of no file at all": (sealed(digests={"..": f"sha256:{'0' * 64}"}), ""),
    "digest of an impossible name": (sealed(digests={"a\0b": f"sha256:{'0' * 64}"}), ""),
    "no ONNX": (file("model.onnx", b"not a graph"), "refuses the graph"),
    "opset of the future": (
        edited(lambda proto: proto.opset_import[0].__setattr__("version", 999)),
        "refuses the graph",
    ),
    "too few columns": (sealed(features=toy.TOY_FEATURES[:4]), "the manifest names 4 features"),
    "fixed batch axis": (model(lambda: toy.toy_model(rows=4)), "batch axis is fixed at 4"),
    "another input": (edited(rename_input), "one input, X"),
    "no probability": (edited(lambda proto: proto.graph.output.pop()), "float32 output probability"),
    "too few classes": (model(lambda: toy.model_of_three_classes()), "margin has shape"),
    "golden rows are not JSON": (file("golden.json", b"["), "golden.json: "),
    "golden margin off": (golden(set_cell("margin", 0.01)), "golden rows: margin differs by 1.0e-02"),
    "golden probability off": (golden(set_cell("probability", 0.501)), "golden rows: probability differs"),
    "golden margin beyond float32": (golden(set_cell("margin", 1e39)), "golden"),
    "golden row missing": (golden(lambda content: content["margin"].pop()), "margin must hold 4 rows"),
    "golden rows too wide": (
        golden(lambda content: [row.append(0) for row in content["rows"]]),
        "golden row 0 has 6 values",
    ),
    "golden rows ragged": (golden(lambda content: content["rows"][0].pop()), "golden"),
    "golden margins ragged": (golden(lambda content: content["margin"][0].append(1)), "golden"),
    "golden row with an unknown category": (golden_row(3, 7.0), "golden"),
    "golden row out of range": (golden_row(0, -1.0), "golden"),
    "golden row without a value": (golden_row(0, None), "golden"),
    "graph that cannot run": (model(lambda: toy.unrunnable_model()), "fails on a batch of 4"),
    "graph of the golden rows only": (edited(fix_rows), "fails on a batch of 1"),
    "card that is not UTF-8": (file("card.md", b"\xff\xfe"), "card.md"),
    "classes that read alike": (
        sealed(classes=[1, "1"], positive_class=1, favourable_outcome="1"),
        "classes must differ as text",
    ),
}


@pytest.fixture
def repository(tmp_path):
    """`toy` in good order and `broken` 2, which a test then breaks."""
    toy.write_toy(tmp_path)
    toy.write_toy(tmp_path, name="broken", version=2)
    return tmp_path


@pytest.mark.parametrize(("breakage", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_package_that_breaks_its_contract_is_refused_and_the_others_are_served(serve, repository, breakage, reason):
    """Not ready, with a reason that names the package and what is wrong; its neighbour answers."""
    breakage(repository / "broken" / "2")
    client = serve(repository)
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 503
    assert ready.json()["error"].startswith("broken/2: ")
    assert reason in ready.json()["error"]
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v1/models").json() == {"models": ["toy"]}
    assert client.predict(toy.request()).status_code == 200
    assert client.get("/openapi.json").status_code == 200
    assert 'plumbline_model_ready{model_name="broken",model_version="2"} 0.0' in client.get("/metrics").text


def test_the_intact_neighbour_of_these_tests_is_loaded(serve, repository):
    """Without a breakage, both are."""
    client = serve(repository)
    assert client.get("/v2/health/ready").status_code == 200
    assert client.get("/v1/models").json() == {"models": ["broken", "toy"]}


def test_a_refused_model_is_not_ready_rather_than_unknown(serve, repository):
    """DESIGN section 3: 404 is for an unknown model, 503 for one that is not ready; a caller may try that again."""
    append("model.onnx")(repository / "broken" / "2")
    response = serve(repository).predict(toy.request(), model="broken")
    assert response.status_code == 503
    assert response.json().keys() == {"error"}
    assert "retry-after" in response.headers


def test_an_older_version_answers_where_the_newest_is_refused(serve, repository):
    """It is a version that was fine yesterday; readiness says what is wrong."""
    toy.write_toy(repository, name="broken", version=1)
    append("model.onnx")(repository / "broken" / "2")
    client = serve(repository)
    assert client.predict(toy.request(), model="broken").json()["model_version"] == "1"
    assert client.get("/v2/health/ready").status_code == 503


def test_an_empty_repository_is_not_ready(serve, tmp_path):
    """There is nothing to send a request to."""
    ready = serve(tmp_path).get("/v2/health/ready")
    assert ready.status_code == 503
    assert ready.json()["error"] == "no model is loaded"


def test_what_is_not_a_package_is_ignored(serve, tmp_path):
    """Notes, hidden folders and names or versions outside the contract."""
    toy.write_toy(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    for folder in (".git/1", "toy/latest", "toy/01", "toy/0", "_draft/1", "toy/1.bak"):
        (tmp_path / folder).mkdir(parents=True)
    assert serve(tmp_path).get("/v2/health/ready").status_code == 200


def test_a_card_is_optional_but_its_absence_is_not_an_empty_text(serve, tmp_path):
    """A reader of an empty page would think that there is nothing to say."""
    (toy.write_toy(tmp_path) / "card.md").unlink()
    toy.seal(tmp_path / "toy" / "1")
    response = serve(tmp_path).get("/v1/models/toy/card")
    assert response.status_code in (404, 501)
    assert response.json().keys() == {"error"}


def test_asking_for_a_gpu_that_is_not_there_is_not_ready(serve, repository):
    """Never the CPU in silence."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has a CUDA provider")
    client = serve(repository, device="cuda:0")
    ready = client.get("/v2/health/ready")
    assert ready.status_code == 503
    assert "toy/1: cuda:0 was asked for" in ready.json()["error"]
    assert client.get("/v1/models").json() == {"models": []}


def test_auto_takes_the_cpu_where_there_is_no_gpu(serve, repository):
    """And says so."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has a CUDA provider")
    assert serve(repository, device="auto").get("/v1/models/toy").json()["provider"] == "CPUExecutionProvider"
