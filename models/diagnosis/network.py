"""The network of `diagnosis`: standardise, one hidden layer, one margin. Scaling is part of the graph."""

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """margin = w2 . tanh(W1 (X - mean) / scale + b1) + b2, from raw `X` `(n, 30)` to `(n, 1)`.

    tanh, not ReLU: a smooth bounded layer keeps margins sane far outside the training range.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, *, hidden: int) -> None:
        """`mean` and `scale` `(d,)` are those of the training rows; `scale` holds no 0."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.hidden = nn.Linear(len(mean), hidden)
        self.margin = nn.Linear(hidden, 1)

    def forward(self, X: Tensor) -> Tensor:
        """Margin of the positive class `(n, 1)`, for raw `X` `(n, d)`."""
        return self.margin(torch.tanh(self.hidden((X - self.mean) / self.scale)))  # type: ignore[no-any-return]
