"""Trains `diagnosis`: a small regularised network on 341 aspirates. About two seconds on one thread."""

from functools import partial
from pathlib import Path

import torch

from models.diagnosis.data import COST, DECLARATION, SEED, load_splits
from models.diagnosis.network import Network
from models.export import Trained, Written, export
from models.fit import fit, torch_margin, torch_probability
from models.graph import graph_from_torch

HIDDEN = 16
LEARNING_RATE = 0.01
# Decoupled decay per step is LEARNING_RATE times this; with early stopping it holds held-out margins below 10.
WEIGHT_DECAY = 0.1
EPOCHS = 600
PATIENCE = 100


def train(repository: Path) -> Written:
    """Fit, check and package `diagnosis` under `repository`."""
    splits = load_splits()
    X = torch.from_numpy(splits.training.X).double()  # (341, 30)

    torch.manual_seed(SEED)
    network = fit(
        Network(X.mean(0), X.std(0), hidden=HIDDEN),
        splits.training,
        splits.validation,
        label="diagnosis",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        epochs=EPOCHS,
        patience=PATIENCE,
    )

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
    )
    return export(trained, repository)
