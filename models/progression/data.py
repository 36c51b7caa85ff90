"""Diabetes progression: 442 patients, ten measurements at baseline, one row per patient.

Source: B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, "Least Angle Regression", Annals of Statistics 32 (2004), as
bundled with scikit-learn, in its original units where the source states any. The outcome is a quantitative measure of
progression one year after baseline, whose scale the source does not document.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes

from models.evaluate import Cost
from models.task import Declaration, Rows, Splits, Strings, stratified_splits
from service.manifest import Feature, SensitiveFeature

SEED = 7
# The scale is undocumented, so no clinical limit exists. 140 halves the study (median 140.5): the question becomes
# whether a patient will be in its worse half, and both answers have the most examples that the data can give.
PROGRESSION_THRESHOLD = 140.0

AGE_BANDS = {"18-39": (18, 40), "40-59": (40, 60), "60+": (60, 121)}
AGE, SEX = 0, 1

DECLARATION = Declaration(
    name="progression",
    description="Will a diabetes patient be in the worse half of progression in a year? From ten measurements.",
    classes=("stable", "progressing"),
    favourable_outcome="stable",
    features=[
        Feature(name="age", kind="numeric", unit="years", minimum=0, maximum=120, description="Age at baseline."),
        Feature(
            name="sex",
            kind="categorical",
            categories=["1", "2"],
            description="Sex as the source codes it; it does not document which code is which.",
        ),
        Feature(name="bmi", kind="numeric", unit="kg/m2", minimum=5, maximum=150, description="Body mass index."),
        Feature(
            name="mean_blood_pressure",
            kind="numeric",
            unit="mmHg",
            minimum=20,
            maximum=250,
            description="Average blood pressure (source: bp; the unit is ours to assume).",
        ),
        Feature(
            name="total_cholesterol",
            kind="numeric",
            unit="mg/dL",
            minimum=10,
            maximum=2_000,
            description="Total serum cholesterol (source: s1, tc; the unit is ours to assume).",
        ),
        Feature(
            name="ldl_cholesterol",
            kind="numeric",
            unit="mg/dL",
            minimum=1,
            maximum=1_500,
            description="Low-density lipoproteins (source: s2, ldl; the unit is ours to assume).",
        ),
        Feature(
            name="hdl_cholesterol",
            kind="numeric",
            unit="mg/dL",
            minimum=1,
            maximum=300,
            description="High-density lipoproteins (source: s3, hdl; the unit is ours to assume).",
        ),
        Feature(
            name="cholesterol_hdl_ratio",
            kind="numeric",
            minimum=1,
            maximum=100,
            description="Total cholesterol over HDL (source: s4, tch).",
        ),
        Feature(
            name="log_triglycerides",
            kind="numeric",
            minimum=0,
            maximum=10,
            description="Natural logarithm of serum triglycerides, possibly (source: s5, ltg, 'possibly log').",
        ),
        Feature(
            name="glucose",
            kind="numeric",
            unit="mg/dL",
            minimum=10,
            maximum=2_000,
            description="Blood sugar (source: s6, glu; the unit is ours to assume).",
        ),
    ],
    sensitive_features=[
        SensitiveFeature(name="sex", groups=["1", "2"], reference_group="1"),
        SensitiveFeature(name="age_band", groups=list(AGE_BANDS), reference_group="40-59"),
    ],
    intersections=[["sex", "age_band"]],
)

# Ours, for want of a clinic's own figure: the card asks whoever uses the model to replace it.
COST = Cost(
    alarm=1.0,
    missed=lambda rows: np.full(len(rows), 3.0),
    unit="intensified follow-ups",
    stated="every alarm costs one intensified follow-up, every missed progression as much as three",
)


def load_splits() -> Splits:
    """220 training, 90 validation and 132 held-out rows (50/20/30 %), each with the same share of progressing ones."""
    X, progression = load_diabetes(return_X_y=True, scaled=False)
    X = X.astype(np.float32)
    groups = {"sex": np.where(X[:, SEX] == 1, "1", "2"), "age_band": age_band(X[:, AGE])}
    # Codes 1 and 2 become positions in the feature's categories.
    X[:, SEX] -= 1
    rows = Rows(X, (progression > PROGRESSION_THRESHOLD).astype(np.int64), groups)
    return stratified_splits(rows, fractions=(0.5, 0.2, 0.3), seed=SEED)


def age_band(age: NDArray[np.float32]) -> Strings:
    """The band `(n,)` of each age `(n,)` in years."""
    starts = [start for start, _ in AGE_BANDS.values()]
    return np.array(list(AGE_BANDS))[np.searchsorted(starts, age, side="right") - 1]
