"""Trains `progression` twice: as served, and without age and sex for the card's ablation. About four seconds."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.evaluate import (
    Estimate,
    baseline_probability,
    choose_threshold,
    gap_estimates,
    group_confusions,
    ranking_intervals,
)
from models.export import Trained, Written, export
from models.fit import fit, torch_margin, torch_probability
from models.graph import graph_from_torch
from models.progression.data import AGE, COST, DECLARATION, SEED, SEX, load_splits
from models.progression.network import Network
from models.task import Rows, Splits

# Chosen by the log loss on splits of the training and validation rows, where 16 settings and the logistic regression
# lay between 0.497 and 0.63; the held-out rows had no part in it.
HIDDEN = 16
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1.0
EPOCHS = 600
PATIENCE = 100


def train(repository: Path) -> Written:
    """Fit, ablate, check and package `progression` under `repository`."""
    splits = load_splits()
    network = fit_network(splits, label="progression")

    blind_columns = [i for i in range(len(DECLARATION.features)) if i not in (AGE, SEX)]
    blind_splits = Splits(
        *(
            Rows(rows.X[:, blind_columns], rows.y, rows.groups)
            for rows in (splits.training, splits.validation, splits.held_out)
        )
    )
    blind_network = fit_network(blind_splits, label="progression without age and sex")

    trained = Trained(
        declaration=DECLARATION,
        splits=splits,
        cost=COST,
        seed=SEED,
        graph=graph_from_torch(network, len(DECLARATION.features)),
        native_margin=partial(torch_margin, network),
        native_probability=partial(torch_probability, network),
        card_template=Path(__file__).with_name("card.md"),
        libraries=("torch", "scikit-learn", "numpy", "onnx", "onnxscript", "onnxruntime"),
        ablation=ablation((network, splits), (blind_network, blind_splits)),
    )
    return export(trained, repository)


def fit_network(splits: Splits, *, label: str) -> nn.Module:
    """One network on the training rows of `splits`, stopped by its validation rows."""
    X = torch.from_numpy(splits.training.X).double()  # (220, d)
    torch.manual_seed(SEED)
    return fit(
        Network(X.mean(0), X.std(0), hidden=HIDDEN),
        splits.training,
        splits.validation,
        label=label,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        epochs=EPOCHS,
        patience=PATIENCE,
    )


def sex_from_the_rest(blind: Splits) -> Estimate:
    """AUROC of a logistic regression that predicts sex from `X` without age and sex."""
    features = [feature for i, feature in enumerate(DECLARATION.features) if i not in (AGE, SEX)]
    training, held_out = (
        Rows(rows.X, (rows.groups["sex"] == "2").astype(np.int64)) for rows in (blind.training, blind.held_out)
    )
    (score,) = baseline_probability(features, training, held_out)
    return ranking_intervals(held_out.y, [score, score], SEED)[0][0]


def ablation(served: tuple[nn.Module, Splits], blind: tuple[nn.Module, Splits]) -> dict[str, Estimate]:
    """AUROC and group gaps of both networks on the same held-out rows, each at its own threshold, by the same cost."""
    y = served[1].held_out.y
    margins = [torch_margin(network, splits.held_out.X) for network, splits in (served, blind)]
    names = ("as served", "without age and sex")
    rankings = ranking_intervals(y, margins, SEED)
    titles = [f"AUROC, {name}" for name in (*names, "served minus without")]
    found = {title: auroc for title, (auroc, _) in zip(titles, rankings, strict=True)}
    found["AUROC, sex told from the other eight inputs"] = sex_from_the_rest(blind[1])

    gaps = []
    for network, splits in (served, blind):
        threshold = choose_threshold(splits.validation, torch_probability(network, splits.validation.X), COST)
        flagged = torch_probability(network, splits.held_out.X) >= threshold
        gaps.append(
            {
                feature.name: gap_estimates(
                    DECLARATION, group_confusions(y, flagged, splits.held_out.groups[feature.name], feature.groups)
                )
                for feature in DECLARATION.sensitive_features
            }
        )
    for feature in DECLARATION.sensitive_features:
        for gap in ("demographic_parity_difference", "equalized_odds_difference"):
            for name, by_feature in zip(names, gaps, strict=True):
                found[f"{gap} by {feature.name}, {name}"] = by_feature[feature.name][gap]
    return found
