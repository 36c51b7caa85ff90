"""Features and groups as they are inferred from the data, and as a user declares them."""

import json

import numpy as np
import pytest
from bringing import N, bring, need, quietly, table
from graphs import single
from onnx import TensorProto

from models.packaging.declared import declared, parse_range, read_schema
from models.packaging.features import feature_matrix, infer_features
from models.packaging.findings import Findings
from models.packaging.groups import understand_groups
from service.errors import PackageError
from service.manifest import read_manifest

FLOAT = TensorProto.FLOAT


def infer(columns, fields=None, element=FLOAT):
    return infer_features(columns, dict.fromkeys(columns.columns, element), fields or {}, Findings())


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["0", "1", "1"], "binary"),
        (["1", "1.0", "0"], "binary"),
        (["True", "False"], "binary"),
        (["2", "3", "2"], "integer"),
        (["-1", "0", "1"], "integer"),
        ([str(i) for i in range(20)], "integer"),
        ([str(i) for i in range(21)], "numeric"),
        (["0.5", "1"], "numeric"),
        (["16777217", "1"], "numeric"),
        (["own", "rent"], "categorical"),
        (["1", "2", "many"], "categorical"),
        (["0", "1", "yes"], "categorical"),
    ],
)
def test_the_kind_follows_from_the_cells(cells, kind):
    """0/1 is binary, words are categorical, few whole numbers integer, everything else numeric."""
    (feature,) = infer(table(x=cells))
    assert feature.kind == kind


def test_categories_are_the_sorted_words_and_enter_as_their_index():
    """The assumption about the coding is said."""
    columns, findings = table(home=["rent", "own", "rent"]), Findings()
    features = infer_features(columns, {"home": FLOAT}, {}, findings)
    assert features[0].categories == ["own", "rent"]
    assert feature_matrix(columns, features).tolist() == [[1.0], [0.0], [1.0]]
    assert any("--schema" in text for text in findings.assumed)


def test_numbers_can_be_categories_by_schema():
    """Codes as written; their order is the one that is declared."""
    columns = table(zone=["07", "12", "07"])
    features = infer(columns, {"zone": {"kind": "categorical", "categories": ["12", "07"]}})
    assert feature_matrix(columns, features).tolist() == [[1.0], [0.0], [1.0]]


def test_a_text_input_takes_whatever_is_written_as_words():
    """A graph that takes strings gets categories, also where they look like numbers."""
    (feature,) = infer(table(zone=["1", "2", "1"]), element=TensorProto.STRING)
    assert feature.categories == ["1", "2"]


def test_missing_numbers_become_nan_where_that_is_declared():
    """Empty cells and the usual words for nothing."""
    columns = table(x=["1.5", "", "NaN", "null", "NA"])
    features = infer(columns, {"x": {"nullable": True}})
    assert np.isnan(feature_matrix(columns, features)[1:]).all()


def test_ranges_may_be_open():
    """NAME=LOW: and NAME=:HIGH; a name may hold an equals sign."""
    assert parse_range("age=18:110") == ("age", {"minimum": 18.0, "maximum": 110.0})
    assert parse_range("debt=:1e6") == ("debt", {"maximum": 1e6})
    assert parse_range("a=b=-1:") == ("a=b", {"minimum": -1.0})


def test_the_schema_file_and_the_options_come_together(tmp_path):
    """Options win over the file."""
    path = tmp_path / "features.yaml"
    path.write_text(
        "age: {unit: years, minimum: 0, maximum: 150}\nhome: {kind: categorical, categories: [own, rent]}\n"
    )
    found = declared(path, ["age=18:110"], ["home"])
    assert found["age"] == {"unit": "years", "minimum": 18.0, "maximum": 110.0}
    assert found["home"] == {"kind": "categorical", "categories": ["own", "rent"], "nullable": True}
    assert read_schema(path)["age"]["maximum"] == 150


def test_declarations_reach_the_manifest(rows, tmp_path):
    """Range, unit and description stand where the service reads them."""
    schema = tmp_path / "features.yaml"
    schema.write_text("income: {unit: EUR, description: A month's net income., minimum: 0}\n")
    folder, _ = bring(
        tmp_path, single("Sigmoid"), rows.with_label(rows.y), schema=schema, ranges=("age=18:110", "debt=:100")
    )
    age, income, debt, member = read_manifest(folder).features
    assert (age.minimum, age.maximum) == (18, 110)
    assert (income.unit, income.minimum, income.maximum) == ("EUR", 0, None)
    assert (debt.minimum, debt.maximum) == (None, 100)
    assert member.kind == "binary"


def test_groups_are_the_values_as_written(rows, tmp_path):
    """Case and leading zeros stay, the largest group is the reference unless one is named."""
    columns = rows.with_label(rows.y) | {"sex": np.where(rows.columns["sex"] == "male", "M", "m")}
    folder, findings = bring(
        tmp_path, single("Sigmoid"), columns, reference=("age_band=18-29",), intersections=("sex+age_band",)
    )
    manifest = read_manifest(folder)
    assert [feature.groups for feature in manifest.sensitive_features] == [["M", "m"], ["18-29", "30-49", "50+"]]
    assert [feature.reference_group for feature in manifest.sensitive_features] == ["M", "18-29"]
    assert manifest.intersections == [["sex", "age_band"]]
    assert any("`M`, the largest" in text for text in findings.assumed)


def test_an_empty_group_is_unknown_and_enters_no_comparison():
    """It is no declared group; the row keeps it as the monitor would."""
    findings = Findings()
    (feature,), groups = understand_groups(table(sex=["f", "", "f", "declined"]), ["sex"], [], findings)
    assert feature.groups == ["f"]
    assert groups["sex"].tolist() == ["f", "unknown", "f", "declined"]
    assert any("2 rows" in text for text in findings.warnings)


def test_a_sensitive_feature_may_be_an_input_as_well(rows, tmp_path):
    """--features names it: then it is declared in both places."""
    sex = (rows.columns["sex"] == "male").astype(int)
    columns = {"age": rows.columns["age"], "income": rows.X[:, 1], "debt": rows.X[:, 2], "sex": sex, "y": rows.y}
    folder, _ = bring(
        tmp_path, single("Sigmoid"), columns, sensitive=("sex",), features=("age", "income", "debt", "sex")
    )
    manifest = read_manifest(folder)
    assert manifest.features[3].kind == "binary"
    assert manifest.sensitive_features[0].groups == ["0", "1"]


def test_parquet_gives_the_same_package_as_csv(rows, tmp_path):
    """Numbers, words and labels are read from either; the digests agree."""
    pyarrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns = rows.with_label(np.where(rows.y == 1, "yes", "no"))
    path = tmp_path / "rows.parquet"
    quietly(parquet.write_table, pyarrow.table({name: pyarrow.array(cells) for name, cells in columns.items()}), path)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    one, _ = bring(tmp_path / "one", single("Sigmoid"), columns)
    (tmp_path / "other" / "given.onnx").write_bytes((tmp_path / "one" / "given.onnx").read_bytes())
    other, _ = bring(tmp_path / "other", tmp_path / "other" / "given.onnx", path)
    assert read_manifest(one).digests == read_manifest(other).digests


def test_parquet_keeps_booleans_and_gaps(rows, tmp_path):
    """A boolean label stays one in JSON; a null is a missing value."""
    pyarrow, parquet = need("pyarrow"), need("pyarrow.parquet")
    columns = rows.with_label(rows.y == 1)
    arrays = {name: pyarrow.array(cells) for name, cells in columns.items()}
    arrays["debt"] = pyarrow.array([None, *rows.X[1:, 2].tolist()])
    path = tmp_path / "rows.parquet"
    quietly(parquet.write_table, pyarrow.table(arrays), path)
    with pytest.raises(PackageError, match=r"NaN in the data.*debt \(1\)"):
        bring(tmp_path, single("Sigmoid"), path)
    arrays["debt"] = pyarrow.array(rows.X[:, 2])
    quietly(parquet.write_table, pyarrow.table(arrays), path)
    folder, _ = bring(tmp_path, single("Sigmoid"), path)
    manifest = read_manifest(folder)
    assert manifest.classes == [False, True]
    assert manifest.positive_class is True


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    """Whatever its name says."""
    need("pyarrow")
    path = tmp_path / "rows.parquet"
    path.write_text("age,income\n1,2\n")
    with pytest.raises(PackageError, match="cannot be read as Parquet"):
        bring(tmp_path, single("Sigmoid"), path)


def test_groups_without_labels_are_declared_and_counted(rows, tmp_path):
    """The reference knows the rows and scores of each group, and no calibrator; nothing could be measured."""
    columns = {name: cells for name, cells in rows.with_label(rows.y).items() if name != "y"}
    folder, _ = bring(tmp_path, single("Sigmoid"), columns, label=None)
    assert "nothing about them could be measured" in (folder / "card.md").read_text()
    reference = json.loads((folder / "reference.json").read_text())
    female = reference["groups"]["sex"]["female"]
    assert female.keys() == {"n", "scores"}
    assert female["n"] == sum(female["scores"]["bins"]) == (rows.columns["sex"] == "female").sum()
    assert "calibrators" not in reference


def test_groups_that_the_service_would_refuse_are_warned_of(rows, tmp_path):
    """Twenty groups by twenty groups make more series than a model may have; the warning names the setting."""
    columns = rows.with_label(rows.y) | {"a": np.arange(N) % 20, "b": np.arange(N) // 20 % 20}
    del columns["sex"], columns["age_band"]
    _, findings = bring(tmp_path, single("Sigmoid"), columns, sensitive=("a", "b"), intersections=("a+b",))
    assert any("PLUMBLINE_MAX_SERIES" in warning for warning in findings.warnings)
