"""What stands in a package, that the same inputs give the same bytes, and that nothing half-written stays."""

import json
import resource
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bringing import bring, write_csv
from graphs import single, squashed

from models.graph import run
from models.packaging.findings import Findings
from models.packaging.package import prepare, write
from models.packaging.request import Request
from service.errors import PackageError
from service.manifest import Golden, parse_part, read_manifest, verify_digests


@pytest.fixture(scope="module")
def package(rows, tmp_path_factory):
    """A package of boosted rows with everything declared."""
    folder, _ = bring(
        tmp_path_factory.mktemp("package"),
        single("Sigmoid"),
        rows.with_label(rows.y),
        held_out=True,
        intersections=("sex+age_band",),
        description="Whether a loan is granted.",
    )
    return folder


def test_every_file_is_there_and_vouched_for(package):
    """All but the manifest have a digest, and are what it says."""
    manifest = read_manifest(package)
    contents = verify_digests(package, manifest)
    assert sorted(contents) == [
        "background.npy",
        "card.md",
        "evaluation.json",
        "explainer.onnx",
        "golden.json",
        "model.onnx",
        "reference.json",
        "replay.jsonl",
    ]
    assert {path.name for path in package.iterdir()} == {*contents, "manifest.json"}


def test_golden_rows_span_the_margins(package, rows):
    """Eight rows, the lowest and the highest margin among them."""
    golden = parse_part((package / "golden.json").read_bytes(), "golden.json", Golden)
    margin, _ = run((package / "model.onnx").read_bytes(), rows.X)
    found = [row[0] for row in golden.margin]
    assert len(found) == 8
    assert (min(found), max(found)) == pytest.approx((margin.min(), margin.max()))


def test_the_reference_counts_every_row(package, rows):
    """Bins of each feature and of the score hold all 500 rows; base rates are those of the labels."""
    reference = json.loads((package / "reference.json").read_text())
    assert reference["n"] == 500
    for feature in reference["features"]:
        assert sum(feature["counts"]["bins"]) == 500
    (score,) = reference["scores"]
    assert score["class"] == 1
    assert sum(score["counts"]["bins"]) == 500
    women = rows.columns["sex"] == "female"
    female = reference["groups"]["sex"]["female"]
    assert (female["n"], female["positives"]) == (women.sum(), rows.y[women].sum())
    assert sum(female["scores"]["bins"]) == women.sum()


def test_replay_lines_are_requests_with_labels(package, rows):
    """Instances as a client posts them, groups as written, labels in the type of the data."""
    lines = [json.loads(line) for line in (package / "replay.jsonl").read_text().splitlines()]
    assert len(lines) == 500
    assert lines[0]["instance"].keys() == {"age", "income", "debt", "member"}
    assert lines[0]["sensitive_features"].keys() == {"sex", "age_band"}
    assert {line["label"] for line in lines} == {0, 1}
    assert all(isinstance(line["instance"]["member"], int) for line in lines)


def test_quality_is_that_of_the_rows(package, rows):
    """Confusion and Brier score, computed by hand."""
    evaluation = json.loads((package / "evaluation.json").read_text())
    probability = run((package / "model.onnx").read_bytes(), rows.X)[1][:, 1].astype(np.float64)
    assert evaluation["confusion"]["true_positive"] == int(((probability >= 0.5) & (rows.y == 1)).sum())
    assert evaluation["brier"] == pytest.approx(np.mean((probability - rows.y) ** 2), abs=1e-5)
    assert list(evaluation["groups"]) == ["sex", "age_band", "sex x age_band"]


def test_the_card_says_whose_rows_these_are(package, rows, tmp_path):
    """Held out where the user said so; else that they may be training data."""
    assert "has not seen these rows" in (package / "card.md").read_text()
    folder, _ = bring(tmp_path, single("Sigmoid"), rows.with_label(rows.y))
    card = (folder / "card.md").read_text()
    assert "may be the ones that the model was trained on" in card
    assert "no disparity" not in card
    assert "$" not in card


def test_several_classes_are_judged_together_and_one_against_the_rest(rows, tmp_path):
    """Accuracy and confusion of all four; ranking and groups of the positive one."""
    from sklearn.linear_model import LogisticRegression
    from test_scikit_learn_models import convert

    model = LogisticRegression(max_iter=5000).fit(rows.X, rows.four)
    folder, _ = bring(tmp_path, convert(model), rows.with_label(rows.four))
    evaluation = json.loads((folder / "evaluation.json").read_text())
    several = evaluation["multiclass"]
    assert several["accuracy"]["value"] == pytest.approx(model.score(rows.X, rows.four))
    assert np.sum(several["confusion"]) == 500
    assert evaluation["positives"] == int((rows.four == 3).sum())
    assert len(json.loads((folder / "reference.json").read_text())["scores"]) == 4
    assert "called 3" in (folder / "card.md").read_text()


def test_no_path_stands_in_a_package(rows, tmp_path):
    """Neither the folder of the inputs nor the name of the machine's user."""
    folder, _ = bring(tmp_path, squashed(), rows.with_label(rows.y))
    for path in folder.iterdir():
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content
        assert str(Path.home()).encode() + b"/" not in content


def ask(folder, rows, **options):
    """A request with its files written to `folder`."""
    (folder / "given.onnx").write_bytes(single("Sigmoid").SerializeToString())
    data = write_csv(folder / "rows.csv", rows.with_label(rows.y))
    defaults = {"name": "credit", "version": "1", "repository": folder / "repository", "label": "y"}
    return Request(onnx=folder / "given.onnx", data=data, sensitive=("sex", "age_band"), **defaults | options)


def test_the_same_inputs_give_the_same_bytes(rows, tmp_path):
    """Digests agree, and a second run leaves the package untouched."""
    asked = ask(tmp_path, rows)
    first = write(prepare(asked, Findings()), asked)
    before = {path.name: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    again = write(prepare(asked, Findings()), asked)
    assert again.changed == []
    assert before == {path.name: path.stat().st_mtime_ns for path in again.folder.iterdir()}


def test_a_version_that_differs_is_replaced_on_request_only(rows, tmp_path):
    """What has answered requests does not change under its number by accident."""
    asked = ask(tmp_path, rows)
    write(prepare(asked, Findings()), asked)
    other = ask(tmp_path, rows, threshold=0.7, ranges=("age=18:110",))
    with pytest.raises(PackageError, match="--version 2, or --replace"):
        write(prepare(other, Findings()), other)
    other = ask(tmp_path, rows, threshold=0.7, ranges=("age=18:110",), replace=True)
    assert write(prepare(other, Findings()), other).existed
    assert read_manifest(tmp_path / "repository" / "credit" / "1").threshold == 0.7


@contextmanager
def small_files():
    """No file may grow beyond 16 kB: writing one fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_half_written_stays_when_writing_fails(rows, tmp_path):
    """A disk that is full in the middle of a package leaves none."""
    asked = ask(tmp_path, rows)
    with small_files(), pytest.raises(PackageError, match="cannot be written: File too large"):
        write(prepare(asked, Findings()), asked)
    assert list((tmp_path / "repository" / "credit").iterdir()) == []


def test_the_old_package_stays_when_replacing_it_fails(rows, tmp_path):
    """The service goes on with what it had."""
    asked = ask(tmp_path, rows)
    written = write(prepare(asked, Findings()), asked)
    before = {path.name: path.read_bytes() for path in written.folder.iterdir()}
    other = replace(asked, threshold=0.7, replace=True)
    with small_files(), pytest.raises(PackageError, match="cannot be written"):
        write(prepare(other, Findings()), other)
    assert [path.name for path in written.folder.parent.iterdir()] == ["1"]
    assert before == {path.name: path.read_bytes() for path in written.folder.iterdir()}


def test_a_ranking_against_the_labels_is_doubted(rows, tmp_path):
    """The output may be about another class."""
    findings = Findings()
    prepare(ask(tmp_path, rows, classes=("1", "0")), findings)
    assert any("against their labels" in text for text in findings.warnings)


def test_rates_of_several_classes_are_about_the_positive_one(rows, tmp_path):
    """With another favourable outcome the tables say what they count."""
    from sklearn.linear_model import LogisticRegression
    from test_scikit_learn_models import convert

    model = LogisticRegression(max_iter=5000).fit(rows.X, rows.four)
    folder, _ = bring(tmp_path, convert(model), rows.with_label(rows.four), favourable="1")
    card = (folder / "card.md").read_text()
    assert "about `3` against all others" in card
    assert "Called not 3" in card
    assert "Called 1 " not in card
