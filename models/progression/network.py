"""The network of `progression`: a logistic regression plus a small hidden layer, on standardised features."""

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """margin = w . Z + v . tanh(W Z + c) + b with Z = (X - mean) / scale, from raw `X` `(n, d)` to `(n, 1)`.

    With 220 training rows nearly all that can be learned is linear; the hidden layer only adds to it.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor, *, hidden: int) -> None:
        """`mean` and `scale` `(d,)` are those of the training rows; `scale` holds no 0."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.linear = nn.Linear(len(mean), 1)
        self.hidden = nn.Linear(len(mean), hidden)
        self.addition = nn.Linear(hidden, 1, bias=False)

    def forward(self, X: Tensor) -> Tensor:
        """Margin of the positive class `(n, 1)`, for raw `X` `(n, d)`."""
        Z = (X - self.mean) / self.scale
        return self.linear(Z) + self.addition(torch.tanh(self.hidden(Z)))  # type: ignore[no-any-return]
