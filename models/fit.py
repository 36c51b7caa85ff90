"""Fits a torch network to the training rows of a split and stops by the validation rows.

The data sets are small: every step sees all training rows, in float64 and on one thread. Weights are rounded to six
digits at the end, so that the last bits, in which processors differ, hardly ever reach the graph and its digest.
"""

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from models.progress import progress
from models.task import FloatMatrix, Floats, Rows

SIGNIFICANT_DIGITS = 6


def fit(
    network: nn.Module,
    training: Rows,
    validation: Rows,
    *,
    label: str,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
    patience: int,
) -> nn.Module:
    """Minimise the log loss of `network` by AdamW and return it, in float32, as it was at its best validation loss.

    Stops after `patience` epochs without a better one, at the latest after `epochs`. `label` names the progress bar.
    """
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network.double()
    X, y = _tensors(training)  # (n, d), (n, 1)
    X_validation, y_validation = _tensors(validation)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    best_loss, best_epoch, best_state = float("inf"), 0, copy.deepcopy(network.state_dict())

    with progress() as bar:
        task = bar.add_task(label, total=epochs)
        for epoch in range(epochs):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(network(X), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                loss = binary_cross_entropy_with_logits(network(X_validation), y_validation).item()
            if loss < best_loss:
                best_loss, best_epoch, best_state = loss, epoch, copy.deepcopy(network.state_dict())
            bar.update(task, advance=1, description=f"{label}: validation log loss {best_loss:.4f}")
            if epoch - best_epoch >= patience:
                bar.update(task, total=epoch + 1)
                break

    network.load_state_dict({name: _rounded(tensor) for name, tensor in best_state.items()})
    return network.float().eval()


def torch_margin(network: nn.Module, X: FloatMatrix) -> Floats:
    """Margin `(n,)` as torch computes it, in float32."""
    with torch.no_grad():
        return network(torch.from_numpy(X))[:, 0].numpy().astype(np.float64)  # type: ignore[no-any-return]


def torch_probability(network: nn.Module, X: FloatMatrix) -> Floats:
    """Probability of the positive class `(n,)` as torch computes it, in float32."""
    with torch.no_grad():
        return torch.sigmoid(network(torch.from_numpy(X)))[:, 0].numpy().astype(np.float64)


def _tensors(rows: Rows) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(rows.X).double(), torch.from_numpy(rows.y).double()[:, None]


def _rounded(tensor: Tensor) -> Tensor:
    magnitude = torch.where(tensor == 0, 1.0, tensor.abs()).log10().floor()
    scale = 10.0 ** (SIGNIFICANT_DIGITS - 1 - magnitude)
    return (tensor * scale).round() / scale
