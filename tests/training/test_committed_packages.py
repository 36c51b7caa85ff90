"""The committed packages keep what their manifests promise."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models.graph import run
from service.manifest import Golden, parse_part, read_manifest, verify_digests

CHECKOUT = Path(__file__).parents[2]


def read(package):
    """Manifest, and all vouched files by name."""
    manifest = read_manifest(package)
    return manifest, verify_digests(package, manifest)


def replay(contents):
    """The replay lines, parsed."""
    return [json.loads(line) for line in contents["replay.jsonl"].splitlines()]


def to_row(manifest, instance):
    """One posted instance as a row of X, written independently of the exporter: index, NaN, or the number."""
    row = []
    for feature in manifest.features:
        value = instance[feature.name]
        if value is None:
            assert feature.nullable
            row.append(np.nan)
        else:
            row.append(feature.categories.index(value) if feature.kind == "categorical" else value)
    return row


def test_every_file_is_vouched_for(package):
    """The folder holds the manifest and exactly the files whose digests it names."""
    manifest, _ = read(package)
    assert {path.name for path in package.iterdir()} == {"manifest.json", *manifest.digests}
    assert {"model.onnx", "golden.json", "reference.json", "card.md", "replay.jsonl"} <= manifest.digests.keys()


def test_a_package_is_small(package):
    """Explainers of at most 4 MB each, the rest under 1.5 MB, so that it can be committed."""
    explainers = {path for path in package.iterdir() if path.name.startswith("explainer")}
    assert all(path.stat().st_size <= 4 * 2**20 for path in explainers)
    assert sum(path.stat().st_size for path in package.iterdir() if path not in explainers) < 1_500_000


def test_no_path_source_line_or_stack_trace_in_any_file(package):
    """Nothing tells where, from which line or by whom the package was made."""
    traces = [str(CHECKOUT), str(Path.home()), "/site-packages", 'File "', "stack_trace", ".py:", "fx_node"]
    for path in package.iterdir():
        content = path.read_bytes()
        assert [trace for trace in traces if trace.encode() in content] == [], path.name


def test_the_time_of_making_stands_only_in_the_manifest(package):
    """No digested file holds anything that looks like a date with a time."""
    for path in package.iterdir():
        found = re.findall(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", path.read_bytes())
        assert len(found) == (path.name == "manifest.json"), path.name


def test_the_graph_has_the_one_form(package):
    """X float32 [n, d] in; margin [n, 1] and probability [n, 2] out; fixed opset, no metadata anywhere."""
    manifest, contents = read(package)
    model = onnx.load_from_string(contents["model.onnx"])
    session = onnxruntime.InferenceSession(contents["model.onnx"], providers=["CPUExecutionProvider"])
    (X,) = session.get_inputs()
    assert (X.name, X.type, X.shape) == ("X", "tensor(float)", ["n", len(manifest.features)])
    assert [(output.name, output.shape) for output in session.get_outputs()] == [
        ("margin", ["n", 1]),
        ("probability", ["n", 2]),
    ]
    assert {opset.domain: opset.version for opset in model.opset_import}.get("") == 20
    graph = model.graph
    parts = [model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]
    assert not any(part.doc_string or part.metadata_props for part in parts)
    assert not any(node.name for node in graph.node)
    assert (model.producer_name, model.producer_version) == ("plumbline", "")


def test_golden_rows_reproduce(package):
    """Eight held-out rows from low to high margin give the stored margin and probability."""
    manifest, contents = read(package)
    golden = parse_part(contents["golden.json"], "golden.json", Golden)
    X = np.array([[np.nan if value is None else value for value in row] for row in golden.rows], np.float32)
    assert X.shape == (8, len(manifest.features))
    margin, probability = run(contents["model.onnx"], X)
    np.testing.assert_allclose(margin, golden.margin, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probability, golden.probability, rtol=1e-5, atol=1e-5)
    assert margin.min() < 0 < margin.max()
    assert np.isnan(X).any() == any(feature.nullable for feature in manifest.features)


def test_probability_is_the_sigmoid_of_the_margin_in_class_order(package):
    """Column 1 is the positive class's, column 0 the rest."""
    manifest, contents = read(package)
    X = np.array([to_row(manifest, line["instance"]) for line in replay(contents)], np.float32)
    margin, probability = run(contents["model.onnx"], X)
    assert manifest.positive_index == 1
    np.testing.assert_allclose(probability[:, 1], 1 / (1 + np.exp(-margin[:, 0].astype(np.float64))), atol=1e-6)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)


def test_a_row_alone_is_a_row_in_a_batch(package):
    """Bit for bit or within 1e-6, in any company and order."""
    manifest, contents = read(package)
    X = np.array([to_row(manifest, line["instance"]) for line in replay(contents)[:64]], np.float32)
    together, _ = run(contents["model.onnx"], X)
    alone = np.concatenate([run(contents["model.onnx"], row[None])[0] for row in X])
    backwards, _ = run(contents["model.onnx"], X[::-1])
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-6)
    np.testing.assert_allclose(backwards[::-1], together, rtol=0, atol=1e-6)


def test_replay_rows_are_what_a_client_posts(package):
    """Typed by the manifest, within its ranges, with declared groups and known labels, both classes among them."""
    manifest, contents = read(package)
    lines = replay(contents)
    declared = {feature.name: feature.groups for feature in manifest.sensitive_features}
    for line in lines:
        assert list(line["instance"]) == manifest.feature_names
        for feature in manifest.features:
            value = line["instance"][feature.name]
            if feature.kind == "categorical":
                assert value in feature.categories
            elif value is not None:
                assert isinstance(value, float if feature.kind == "numeric" else int)
                assert feature.bounds[0] <= value <= feature.bounds[1]
        for name, group in line["sensitive_features"].items():
            assert group in declared[name]
    assert {line["label"] for line in lines} == set(manifest.classes)
    assert 200 <= len(lines) <= 2001


def test_replay_rows_are_scored_as_evaluated(package):
    """Positives among the replay rows score higher than negatives about as often as the stated AUROC says."""
    manifest, contents = read(package)
    lines = replay(contents)
    X = np.array([to_row(manifest, line["instance"]) for line in lines], np.float32)
    score = run(contents["model.onnx"], X)[0][:, 0]
    positive = np.array([line["label"] == manifest.positive_class for line in lines])
    auroc = np.mean(score[positive][:, None] > score[~positive][None, :])
    assert auroc == pytest.approx(manifest.provenance.metrics["model"]["auroc"]["value"], abs=0.12)


def test_margins_stay_sane(package):
    """No held-out row's margin exceeds 20, and the card states the largest."""
    _, contents = read(package)
    largest = json.loads(contents["evaluation.json"])["largest_margin"]
    assert largest < 20
    assert f"{largest:.2f}" in contents["card.md"].decode()


def test_reference_counts_add_up(package):
    """Every feature and the score were counted once for each reference row, in the manifest's order."""
    manifest, contents = read(package)
    reference = json.loads(contents["reference.json"])
    assert [feature["name"] for feature in reference["features"]] == manifest.feature_names
    for entry in (*reference["features"], *reference["scores"]):
        counts = entry["counts"]
        others = sum(count for name, count in counts.items() if name != "bins")
        assert sum(counts["bins"]) + others == reference["n"]
        assert counts.get("underflow", 0) == counts.get("overflow", 0) == 0
    assert reference["data_fingerprint"] == manifest.provenance.data_fingerprint


def test_the_card_sets_the_model_beside_its_baseline(package):
    """Both AUROCs with intervals, the verdict, the threshold and its cost, and the number of rows."""
    manifest, contents = read(package)
    card = contents["card.md"].decode()
    evaluation = json.loads(contents["evaluation.json"])
    for who in ("model", "baseline"):
        auroc = evaluation[who]["auroc"]
        assert f"{auroc['value']:.4f} ({auroc['low']:.4f} to {auroc['high']:.4f})" in card
    assert f"**{manifest.threshold:g}**" in card
    assert "every alarm costs" in card
    assert f"| {evaluation['n']} |" in card
    assert re.search(r"For AUROC .*(better than|loses to|told\s+apart)", card)
    assert "$" not in card


def test_a_model_behind_its_baseline_says_why_it_is_kept(package):
    """Where the point estimate is not ahead, the card gives a reason."""
    _, contents = read(package)
    if json.loads(contents["evaluation.json"])["auroc_gain"]["value"] <= 0:
        assert re.search(r"\bis\s+kept\s+because\b", contents["card.md"].decode())
