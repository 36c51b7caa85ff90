"""Tables of decisions and outcomes that others have published figures about. Skips where the files are not there."""

from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "data"
COMPAS_REFERENCES = {"race": "Caucasian", "sex": "Male"}
INTERSECTION = "race x sex"


def _read(name):
    if not (FOLDER / name).exists():
        pytest.skip(f"{name} is not here (shared/data beside the repository)")
    return pd.read_csv(FOLDER / name)


def compas():
    """ProPublica's 7214 people as Aequitas has them: id, predicted, actual, race, sex."""
    table = _read("compas.csv")
    return pd.DataFrame(
        {
            "id": table["entity_id"].astype(str),
            "predicted": table["score"].astype(int),
            "actual": table["label_value"].astype(int),
            "race": table["race"],
            "sex": table["sex"],
        }
    )


def aif360():
    """The 20 people of AIF360's tests in R: id, predicted, actual, sex."""
    actual, predicted = _read("aif360_actual.csv"), _read("aif360_predicted.csv")
    return pd.DataFrame(
        {
            "id": [f"row-{number}" for number in range(len(actual))],
            "predicted": predicted["income"],
            "actual": actual["income"],
            "sex": actual["sex"].map({0: "Female", 1: "Male"}),
        }
    )


def rows(table, features):
    """The table as `stub.predict` and `stub.label` take it."""
    return [
        {
            "id": row["id"],
            "score": row["predicted"],
            "actual": row["actual"],
            "groups": {feature: row[feature] for feature in features},
        }
        for row in table.to_dict("records")
    ]


def groups(table, features):
    return {feature: sorted(table[feature].unique()) for feature in features}
