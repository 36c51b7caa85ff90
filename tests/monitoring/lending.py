"""A model about loans whose people and answers are known to the last probability, and traffic about them.

Nobody's group has anything to do with features or outcomes; three features have no weight. What is done to the traffic,
and nothing else, makes a difference:

    shifted   three features without weight move by a standard deviation: inputs drift; scores and explanations do not
    biased    of the rows, which stay as they are, those that are refused are said to be of the south more often
"""

import math
import threading
import time

import httpx
import numpy as np
import toy
from onnx import TensorProto, helper

from models.explainer.compile import compile_explainer
from models.export import json_bytes
from models.reference import attributions, frozen_counts
from models.task import Rows
from service.manifest import Feature, SensitiveFeature

MODEL = "lending"
SHIFTED = ("distance", "tenure", "visits")
BIASED = "south"
CHANNELS = ["branch", "web", "agent", "phone"]  # nobody of the reference came by phone
FEATURES = [
    Feature(name="income", kind="numeric", nullable=True),
    Feature(name="savings", kind="numeric"),
    Feature(name="debt", kind="numeric"),
    Feature(name="member", kind="binary"),
    Feature(name="channel", kind="categorical", categories=CHANNELS),
    *(Feature(name=name, kind="numeric") for name in SHIFTED),
]
SENSITIVE_FEATURES = [
    SensitiveFeature(name="sex", groups=["female", "male"], reference_group="male"),
    SensitiveFeature(name="region", groups=["north", "centre", "south"], reference_group="centre"),
]
WEIGHTS = np.array([1.2, 0.9, -0.9, 0.6, 0.0, 0, 0, 0], np.float32)
BIAS = -0.3
MISSING_SHARE = 0.1
# So many that the PSI of the groups that are not treated worse is the bias's alone, 0.05 of the 0.1 that is tolerated,
# however few rows a busy machine answers: what a group of a small reference lacks by chance adds to it.
REFERENCE_ROWS = 16_000
# How often the south is said to be approved; half of all rows are.
APPROVED_SOUTH = 0.28
ROWS, REQUESTS_A_SECOND = 50, 8
LABELLED = 0.8


def draw(n, dice):
    """n people: `X` `(n, 8)`, whether they repay `(n,)`, and their groups, which have to do with nothing."""
    X = dice.normal(size=(n, len(FEATURES)))
    X[:, 3] = dice.random(n) < 0.5
    X[:, 4] = dice.choice(3, n)
    repays = dice.random(n) < 1 / (1 + np.exp(-margin(X)))
    X[dice.random(n) < MISSING_SHARE, 0] = np.nan
    groups = {feature.name: dice.choice(feature.groups, n) for feature in SENSITIVE_FEATURES}
    return Rows(X.astype(np.float32), repays.astype(np.int64), groups)


def margin(X):
    """What the model computes `(n,)`: a missing income counts as 0."""
    return np.nan_to_num(X) @ WEIGHTS + BIAS


def write(root):
    """The package, in `root`."""
    features = [feature.model_dump(exclude_none=True, exclude_defaults=True) for feature in FEATURES]
    graph = _graph()
    rows = draw(REFERENCE_ROWS, np.random.default_rng(1))
    golden = [[None if math.isnan(value) else float(value) for value in row] for row in rows.X[:8]]
    about = {
        "features": features,
        "sensitive_features": [feature.model_dump() for feature in SENSITIVE_FEATURES],
        "intersections": [["sex", "region"]],
        "classes": ["refuse", "approve"],
        "positive_class": "approve",
        "favourable_outcome": "approve",
    }
    folder = toy.write(root / MODEL / "1", graph, golden, **about)
    compiled = compile_explainer(graph, FEATURES, population=rows.X[::2], held_out=rows.X[1::2], seed=0)
    reference = frozen_counts(
        FEATURES,
        rows,
        training=rows.X,
        scores={"approve": 1 / (1 + np.exp(-margin(rows.X)))},
        positive_class="approve",
        labelled=True,
        attributions=attributions(compiled.explainer.content, 0, FEATURES, rows.X),
        data_fingerprint="none",
    )
    for name, content in {"reference.json": json_bytes(reference), **compiled.files()}.items():
        (folder / name).write_bytes(content)
    toy.seal(folder, explainer=compiled.info().model_dump(mode="json", exclude_none=True))
    return root


def _graph():
    nodes = [
        helper.make_node("IsNaN", ["X"], ["missing"]),
        helper.make_node("Where", ["missing", "nought", "X"], ["filled"]),
        helper.make_node("MatMul", ["filled", "weights"], ["sum"]),
        helper.make_node("Add", ["sum", "bias"], ["margin"]),
        *toy.LOGIT,
    ]
    constants = [
        helper.make_tensor("nought", TensorProto.FLOAT, [], [0.0]),
        toy.constant("weights", WEIGHTS[:, None]),
        toy.constant("bias", [BIAS]),
        toy.ONE,
    ]
    return toy.model(nodes, constants, width=len(FEATURES), classes=2)


class Traffic(threading.Thread):
    """People who ask, some hundred a second, and what became of most of them; `shifted` and `biased` may be set."""

    def __init__(self, url, seed=2):
        super().__init__()
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=20)
        self._dice = np.random.default_rng(seed)
        self._ends = threading.Event()
        self.shifted = self.biased = False
        self.rows = 0
        self.failures = []

    def run(self):
        """Open loop, until `stop`."""
        start, number = time.monotonic(), 0
        while not self._ends.wait(max(0.0, start + number / REQUESTS_A_SECOND - time.monotonic())):
            number += 1
            try:
                self._ask(explain=number % REQUESTS_A_SECOND == 0)
                if number % (5 * REQUESTS_A_SECOND) == 0:
                    self._ask_wrongly()
            except Exception as error:  # noqa: BLE001 - for the test to see
                self.failures.append(error)

    def _ask(self, *, explain):
        rows = draw(ROWS, self._dice)
        if self.biased:
            rows.groups["region"] = self._regions(margin(rows.X) >= 0)
        if self.shifted:
            rows.X[:, -len(SHIFTED) :] += 1
        people = [dict(zip(rows.groups, row, strict=True)) for row in zip(*rows.groups.values(), strict=True)]
        body = {"instances": [_instance(row) for row in rows.X], "sensitive_features": people}
        answer = self._http.post(f"/v1/models/{MODEL}:predict", json=body | ({"explain": True} if explain else {}))
        answer.raise_for_status()
        known = [
            {"id": prediction["id"], "label": "approve" if repays else "refuse"}
            for prediction, repays in zip(answer.json()["predictions"], rows.y, strict=True)
            if self._dice.random() < LABELLED
        ]
        self._http.post(f"/v1/models/{MODEL}:outcomes", json={"outcomes": known}).raise_for_status()
        self.rows += ROWS

    def _regions(self, approved):
        """A third in each; of the south APPROVED_SOUTH are approved, of the others more."""
        third = 1 / 3
        south = np.where(approved, APPROVED_SOUTH * third / 0.5, (1 - APPROVED_SOUTH) * third / 0.5)
        drawn = self._dice.random(len(approved))
        return np.where(drawn < south, "south", np.where(drawn < south + (1 - south) / 2, "north", "centre"))

    def _ask_wrongly(self):
        """By a channel that nobody declared: refused, and counted."""
        body = {"instances": [_instance(draw(1, self._dice).X[0]) | {"channel": "fax"}]}
        assert self._http.post(f"/v1/models/{MODEL}:predict", json=body).status_code == 400

    def stop(self):
        """Ask no more."""
        self._ends.set()
        self.join(20)
        self._http.close()


def _instance(row):
    values = {feature.name: float(value) for feature, value in zip(FEATURES, row, strict=True)}
    missing = math.isnan(values["income"])
    return values | {
        "income": None if missing else values["income"],
        "member": int(values["member"]),
        "channel": CHANNELS[int(values["channel"])],
    }
