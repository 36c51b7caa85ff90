"""A package that is refused: what served goes on serving, and the reason is in the log, the metrics and the index."""

import json

import onnx
import pytest
import toy
from structlog.testing import capture_logs


def opset_of_the_future(folder):
    proto = onnx.load_from_string((folder / "model.onnx").read_bytes())
    proto.opset_import[0].version = 999
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    toy.seal(folder)


def golden_margin_off(folder):
    golden = json.loads((folder / "golden.json").read_text())
    golden["margin"][0][0] += 0.01
    (folder / "golden.json").write_text(json.dumps(golden))
    toy.seal(folder)


def too_many_series(folder):
    groups = [str(number) for number in range(20)]
    names = ["a", "b"]
    features = [{"name": name, "groups": groups, "reference_group": "0"} for name in names]
    toy.seal(folder, sensitive_features=features, intersections=[names])


def no_explainer(folder):
    (folder / "explainer.onnx").write_bytes(b"not a graph")
    info = {"algorithm": "linear", "plan_id": "sha256:" + "a" * 64, "n_evals": 1, "background_rows": 1}
    toy.seal(folder, explainer=info | {"background_id": "sha256:" + "a" * 64})


BREAKAGES = {
    "digest": (
        lambda folder: (folder / "model.onnx").write_bytes(b"x"),
        "files",
        "model.onnx is not the file that was",
    ),
    "half a copy": (lambda folder: (folder / "model.onnx").unlink(), "files", "model.onnx cannot be read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest", "manifest.json cannot be read"),
    "another name": (lambda folder: toy.seal(folder, name="x"), "manifest", "that of x/"),
    "shape": (lambda folder: toy.seal(folder, features=toy.TOY_FEATURES[:4]), "graph", "the manifest names 4 features"),
    "opset": (opset_of_the_future, "graph", "refuses the graph"),
    "golden row": (golden_margin_off, "golden_rows", "golden rows: margin differs by"),
    "series": (too_many_series, "series", "PLUMBLINE_MAX_SERIES allows 5000"),
    "explainer": (no_explainer, "explainer", "refuses the graph"),
}
BROKEN = pytest.mark.parametrize(("breakage", "step", "reason"), BREAKAGES.values(), ids=BREAKAGES)


@BROKEN
def test_a_new_version_that_is_refused_leaves_the_old_one_serving(operator, breakage, step, reason) -> None:
    """Ready all the while; repaired, it is loaded."""
    operator.write(1)
    operator.serve()
    before = operator.answer()
    breakage(operator.write(2, bias=-3.0))
    with capture_logs() as logs:
        response = operator.load()
    assert response.status_code == 400
    assert response.json()["error"].startswith("load: toy/2: ")
    assert reason in response.json()["error"]
    [line] = [line for line in logs if line["event"] == "model refused"]
    assert (line["model"], line["log_level"]) == ("toy/2", "error")
    assert reason in line["reason"]
    state, why = operator.index()["toy/2"]
    assert state == "UNAVAILABLE"
    assert reason in why
    assert operator.index()["toy/1"] == ("READY", "")
    assert operator.metric("plumbline_model_load_failures_total", model_name="toy", step=step) == 1
    assert operator.metric("plumbline_model_refused", model_name="toy", model_version="2") == 1
    assert operator.metric("plumbline_model_ready", model_name="toy", model_version="2") == 0
    assert operator.metric("plumbline_model_ready", model_name="toy", model_version="1") == 1
    assert operator.metric("plumbline_batch_rows_count", model_name="toy", model_version="2") is None
    assert operator.answer() == before
    assert operator.client.predict(toy.request(), model="toy/versions/2").status_code == 503
    assert operator.ready()
    operator.write(2, bias=-3.0)
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "2"
    assert operator.index()["toy/2"] == ("READY", "")
    assert operator.metric("plumbline_model_refused", model_name="toy", model_version="2") == 0


@BROKEN
def test_a_rebuilt_version_that_is_refused_leaves_the_one_before_serving(operator, breakage, step, reason) -> None:
    """It stays ready; the index and the metrics say that something else lies there."""
    operator.write(bias=-4.0)
    operator.serve()
    before = operator.answer()
    breakage(operator.write(bias=-3.0))
    assert operator.load().status_code == 400
    assert operator.answer() == before
    state, why = operator.index()["toy/1"]
    assert state == "READY"
    assert why.startswith("the one before serves: ")
    assert reason in why
    assert operator.metric("plumbline_model_ready", model_name="toy", model_version="1") == 1
    assert operator.metric("plumbline_model_refused", model_name="toy", model_version="1") == 1
    assert operator.metric("plumbline_model_load_failures_total", model_name="toy", step=step) == 1
    assert operator.ready()
    operator.write(bias=-3.0)
    assert operator.load().status_code == 200
    assert operator.answer()[1] > before[1]
    assert operator.index()["toy/1"] == ("READY", "")


def test_a_version_goes_only_when_another_one_serves(operator) -> None:
    """Replaced by one that is refused, the old one stays although its folder has gone."""
    operator.write(1)
    operator.serve()
    operator.remove(1)
    folder = operator.write(2)
    (folder / "model.onnx").write_bytes(b"x")
    assert operator.load().status_code == 400
    assert operator.answer()[0] == "1"
    operator.write(2)
    assert operator.load().status_code == 200
    assert operator.answer()[0] == "2"
    assert operator.client.predict(toy.request(), model="toy/versions/1").status_code == 404


def test_what_was_refused_at_the_start_makes_ready_when_it_is_repaired(operator) -> None:
    """Until then the service is not ready, as it never served all that it was given."""
    folder = operator.write(1)
    operator.write(name="other")
    (folder / "model.onnx").write_bytes(b"x")
    operator.serve()
    assert not operator.ready()
    assert operator.load().status_code == 400
    assert not operator.ready()
    assert operator.metric("plumbline_model_load_failures_total", model_name="toy", step="files") == 2
    operator.write(1)
    assert operator.load().status_code == 200
    assert operator.ready()


def test_what_was_refused_and_then_removed_is_forgotten(operator) -> None:
    """Index and metrics name what is there."""
    operator.write(1)
    operator.serve()
    (operator.write(2) / "model.onnx").unlink()
    operator.load()
    assert "toy/2" in operator.index()
    operator.remove(2)
    assert operator.load().status_code == 200
    assert operator.index() == {"toy/1": ("READY", "")}
    assert operator.metric("plumbline_model_refused", model_name="toy", model_version="2") is None


def test_features_of_a_package_that_has_gone_have_no_series(operator) -> None:
    """Where a rebuilt version names a feature otherwise."""
    operator.write(1)
    operator.serve()
    labels = {"model_name": "toy", "model_version": "1", "reason": "type"}
    assert operator.metric("plumbline_refused_values_total", feature="hour", **labels) == 0
    features = [feature | {"name": "time"} if feature["name"] == "hour" else feature for feature in toy.TOY_FEATURES]
    operator.write(1, features=features)
    assert operator.load().status_code == 200
    assert operator.metric("plumbline_refused_values_total", feature="hour", **labels) is None
    assert operator.metric("plumbline_refused_values_total", feature="time", **labels) == 0
    assert operator.metric("plumbline_refused_values_total", feature="amount", **labels) == 0
