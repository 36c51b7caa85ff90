"""Wisconsin diagnostic breast cancer: 569 aspirates, 30 measurements each.

Source: W. H. Wolberg, W. N. Street, O. L. Mangasarian, UCI repository 1995, as bundled with scikit-learn. The data
holds no sex, age or other attribute of the patient, so disparities can be measured only in use, by what callers send.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer

from models.evaluate import Cost
from models.task import Declaration, Rows, Splits, stratified_splits
from service.manifest import Feature, SensitiveFeature

# Highest possible value per measurement. The images are 8-bit grey, which bounds texture; the source states no length
# unit, so lengths and areas are bounded by what an image of one mass can hold, some 5 times the largest seen.
MEASUREMENTS = {
    "radius": (150.0, "mean distance from the nucleus's centre to its outline"),
    "texture": (255.0, "standard deviation of grey values"),
    "perimeter": (1_000.0, "length of the outline"),
    "area": (25_000.0, "area inside the outline"),
    "smoothness": (1.0, "local variation of the radius"),
    "compactness": (10.0, "perimeter squared over area, minus 1, as the source scales it"),
    "concavity": (10.0, "severity of the outline's concave parts"),
    "concave_points": (1.0, "number of concave parts of the outline, as the source scales it"),
    "symmetry": (1.0, "symmetry of the outline, as the source measures it"),
    "fractal_dimension": (1.0, "coastline approximation of the outline, minus 1"),
}
UNITS = {"radius": "image length", "texture": "grey level", "perimeter": "image length", "area": "image length squared"}


def _features() -> list[Feature]:
    """The 30 columns in scikit-learn's order: ten means, ten standard errors, ten worst values."""
    forms = {
        "mean_{}": "Mean over the sample's nuclei: {}.",
        "{}_error": "Standard error over the sample's nuclei: {}.",
        "worst_{}": "Mean of the three largest nuclei: {}.",
    }
    return [
        Feature(
            name=form.format(measurement),
            kind="numeric",
            unit=UNITS.get(measurement),
            minimum=0,
            maximum=maximum,
            description=sentence.format(meaning),
        )
        for form, sentence in forms.items()
        for measurement, (maximum, meaning) in MEASUREMENTS.items()
    ]


DECLARATION = Declaration(
    name="diagnosis",
    description="Is a breast mass malignant? From 30 measurements of cell nuclei in a fine-needle aspirate.",
    classes=("benign", "malignant"),
    favourable_outcome="benign",
    features=_features(),
    sensitive_features=[
        SensitiveFeature(name="sex", groups=["female", "male"], reference_group="female"),
        SensitiveFeature(
            name="age_band",
            groups=["18-29", "30-39", "40-49", "50-59", "60-69", "70+"],
            reference_group="50-59",
        ),
    ],
    intersections=[["sex", "age_band"]],
)


SEED = 7

# Ours, for want of a clinic's own figure: the card asks whoever uses the model to replace it.
COST = Cost(
    alarm=1.0,
    missed=lambda rows: np.full(len(rows), 20.0),
    unit="biopsies",
    stated="every alarm costs one biopsy, every missed malignancy as much as 20 biopsies",
)


def load_splits() -> Splits:
    """341 training, 115 validation and 113 held-out rows (60/20/20 %), each with the same share of malignant ones."""
    X, target = load_breast_cancer(return_X_y=True)
    # scikit-learn codes malignant as 0; here 1 is the positive class.
    rows = Rows(X.astype(np.float32), (target == 0).astype(np.int64))
    return stratified_splits(rows, fractions=(0.6, 0.2, 0.2), seed=SEED)
