"""The public ULB credit-card data: 284,807 European card payments of two days in 2013, 492 of them fraud.

Columns `Time` (seconds since the first payment), `V1`..`V28` (principal components; what they mean is not published),
`Amount`, `Class` (1 = fraud). Published by Dal Pozzolo, Caelen, Johnson and Bontempi, "Calibrating Probability with
Undersampling for Unbalanced Classification" (2015). The file has no customer, so splits are by time alone, and no
attribute of a person, so no disparities can be measured offline. It is not part of this repository.
"""

from pathlib import Path

import numpy as np

from models.evaluate import Cost
from models.task import Declaration, Rows, Splits
from models.transaction.data import INVESTIGATION_EUR, lost_amount
from service.errors import PackageError
from service.manifest import Feature

COMPONENTS = [f"V{i}" for i in range(1, 29)]
HEADER = ["Time", *COMPONENTS, "Amount", "Class"]
SPLIT_SHARES = (0.6, 0.2, 0.2)

DECLARATION = Declaration(
    name="transaction",
    description="Is a card payment fraudulent? From the anonymised components of the public ULB credit-card data.",
    classes=("legitimate", "fraud"),
    favourable_outcome="legitimate",
    features=[
        Feature(
            name="hour",
            kind="integer",
            minimum=0,
            maximum=23,
            description="Hours since the data's first payment, modulo 24; its clock time is not published.",
        ),
        *(Feature(name=name, kind="numeric", description="Principal component, not explained.") for name in COMPONENTS),
        Feature(name="amount", kind="numeric", unit="EUR", minimum=0, maximum=1_000_000, description="To be paid."),
    ],
)

COST = Cost(
    alarm=INVESTIGATION_EUR,
    missed=lambda rows: lost_amount(rows, len(DECLARATION.features) - 1),
    unit="EUR",
    stated=f"every alarm costs an investigation of {INVESTIGATION_EUR:g} EUR, every missed fraud its amount",
)


def load_splits(path: Path) -> Splits:
    """The first 60 % of the payments train, the next 20 % validate, the last 20 % are held out.

    Raises PackageError if the file is not that table, or a split holds only one class.
    """
    rows = load(path)
    cuts = np.round(np.cumsum(SPLIT_SHARES[:2]) * len(rows)).astype(int)
    splits = Splits(*(rows.take(index) for index in np.split(np.arange(len(rows)), cuts)))
    for part in (splits.training, splits.validation, splits.held_out):
        if len(np.unique(part.y)) < 2:
            raise PackageError(f"{path.name}: split by time into 60/20/20 %, every part needs both classes")
    return splits


def load(path: Path) -> Rows:
    """All payments of the file, in order of time. PackageError names what is not as published."""
    with path.open(encoding="utf-8") as lines:
        header = [name.strip().strip('"') for name in lines.readline().split(",")]
        if header != HEADER:
            raise PackageError(f"{path.name}: the first line must name {', '.join(HEADER[:2])}, ..., Amount, Class")
        try:
            # Some copies quote every value of Class.
            table = np.loadtxt(lines, delimiter=",", quotechar='"', ndmin=2)
        except ValueError as error:
            raise PackageError(f"{path.name}: every value must be a number") from error
    if table.shape[1:] != (len(HEADER),) or not np.isfinite(table).all() or not np.isin(table[:, -1], (0, 1)).all():
        raise PackageError(f"{path.name}: {len(HEADER)} finite numbers a line are expected, the last 0 or 1")
    table = table[np.argsort(table[:, 0], kind="stable")]
    hour = np.floor(table[:, :1] / 3600) % 24
    return Rows(np.hstack([hour, table[:, 1:-1]]).astype(np.float32), table[:, -1].astype(np.int64))
