"""From manifest to request schema: what is accepted becomes `X`, what is not gets a message without the input."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api import codec
from service.api.schema import RequestSchema
from service.errors import InvalidRequest
from service.manifest import Feature, Manifest

DIGEST = "sha256:" + "0" * 64
FEATURES = [
    Feature(name="amount", kind="numeric", minimum=0, maximum=1000, unit="EUR"),
    Feature(name="hour", kind="integer", minimum=0, maximum=23),
    Feature(name="abroad", kind="binary"),
    Feature(name="entry", kind="categorical", categories=["chip", "online"]),
    Feature(name="days", kind="numeric", nullable=True),
]
MANIFEST = Manifest.model_validate(
    {
        "name": "t",
        "version": "1",
        "task": "binary",
        "link": "logit",
        "created_at": "-",
        "description": "-",
        "classes": ["no", "yes"],
        "positive_class": "yes",
        "favourable_outcome": "no",
        "threshold": 0.5,
        "features": FEATURES,
        "sensitive_features": [{"name": "sex", "groups": ["female", "male"], "reference_group": "male"}],
        "digests": {"model.onnx": DIGEST, "golden.json": DIGEST},
        "provenance": {"seed": 0, "data_fingerprint": "-"},
    }
)
SCHEMA = RequestSchema(MANIFEST, max_instances=3)
GOOD = {"amount": 9.5, "hour": 3, "abroad": True, "entry": "online", "days": None}


def parse(request: Any) -> Any:
    return SCHEMA.parse(json.dumps(request).encode())


def test_row_becomes_raw_features_in_manifest_order() -> None:
    """Keys may come in any order; categories become indices, true 1, null NaN."""
    row = dict(reversed(GOOD.items()))
    np.testing.assert_array_equal(parse({"instances": [row]}).X, np.array([[9.5, 3, 1, 1, np.nan]], np.float32))


instances = st.fixed_dictionaries(
    {
        "amount": st.floats(0, 1000, width=32) | st.integers(0, 1000),
        "hour": st.integers(0, 23) | st.integers(0, 23).map(float),
        "abroad": st.sampled_from([0, 1, 0.0, 1.0, True, False]),
        "entry": st.sampled_from(["chip", "online"]),
        "days": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
    }
)


@given(st.lists(instances, min_size=1, max_size=3))
def test_whatever_the_manifest_allows_is_accepted_and_survives(rows: list[dict[str, Any]]) -> None:
    """Decoding `X` gives back what was posted."""
    X = parse({"instances": rows}).X
    decoded = [codec.instance(FEATURES, [None if np.isnan(x) else float(x) for x in row]) for row in X]
    assert decoded == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amount": 1001}, "instances[1].amount: a finite number from 0 to 1000 EUR is expected"),
        ({"amount": True}, "instances[1].amount: a finite number from 0 to 1000 EUR is expected"),
        ({"amount": "9"}, "instances[1].amount: a finite number from 0 to 1000 EUR is expected"),
        ({"hour": 2.5}, "instances[1].hour: a whole number from 0 to 23 is expected"),
        ({"hour": 5.5e-15}, "instances[1].hour: a whole number from 0 to 23 is expected"),
        ({"hour": 2.9999999999999996}, "instances[1].hour: a whole number from 0 to 23 is expected"),
        ({"abroad": 5.5e-15}, "instances[1].abroad: 0, 1, false or true is expected"),
        ({"abroad": 2}, "instances[1].abroad: 0, 1, false or true is expected"),
        ({"entry": "phone"}, 'instances[1].entry: one of "chip", "online" is expected'),
        ({"entry": None}, 'instances[1].entry: one of "chip", "online" is expected'),
        ({"days": 1e39}, "instances[1].days: a finite number or null is expected"),
        ({"amuont": 1}, "instances[1]: unknown field; did you mean amount?"),
        ({"zzz": 1}, "instances[1]: unknown field; known are: amount, hour, abroad, entry, days"),
    ],
)
def test_message_says_where_and_what_is_expected(change: dict[str, Any], message: str) -> None:
    """The message is made of declared things only."""
    with pytest.raises(InvalidRequest) as refused:
        parse({"instances": [GOOD, GOOD | change]})
    assert str(refused.value) == message


def test_misspelt_field_is_better_news_than_a_missing_one() -> None:
    """A key that is nearly right explains why another is missing."""
    row = GOOD | {"amuont": 1}
    del row["amount"]
    with pytest.raises(InvalidRequest, match="did you mean amount"):
        parse({"instances": [row]})
    del row["amuont"]
    with pytest.raises(InvalidRequest, match=r"instances\[0\]\.amount: missing; a finite number"):
        parse({"instances": [row]})


def test_documented_schema_forbids_unknown_fields_and_names_the_ranges() -> None:
    """OpenAPI comes from the same types that validate."""
    schema = SCHEMA.json_schema()
    row = schema["$defs"]["Instance"]
    assert row["additionalProperties"] is False
    assert row["required"] == [feature.name for feature in FEATURES]
    assert (row["properties"]["amount"]["minimum"], row["properties"]["amount"]["maximum"]) == (0, 1000)
    assert row["properties"]["hour"]["multipleOf"] == 1
    assert row["properties"]["entry"]["enum"] == ["chip", "online"]
    assert schema["properties"]["instances"]["maxItems"] == 3
