"""torch networks, exported by dynamo, answer in the service as in torch, whatever their last layer is."""

import numpy as np
import pytest
from bringing import NUMBERS, bring, instances, need, quietly, served

from models.graph import run
from service.manifest import read_manifest

LAST = {
    "margin": lambda torch, z: z,
    "sigmoid": lambda torch, z: torch.sigmoid(z),
    "squeezed sigmoid": lambda torch, z: torch.sigmoid(z).squeeze(1),
    "softmax": lambda torch, z: torch.softmax(z, dim=1),
    "both": lambda torch, z: (z, torch.softmax(z, dim=1)),
}


def network(torch, rows, outputs, last):
    """A small network with its scaling inside; its weights are drawn, not trained: only the numbers matter here."""

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.from_numpy(rows.X.mean(0)))
            self.register_buffer("scale", torch.from_numpy(rows.X.std(0)))
            self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, outputs))

        def margin(self, X):
            return 3 * self.layers((X - self.mean) / self.scale)

        def forward(self, X):
            return LAST[last](torch, self.margin(X))

    torch.manual_seed(0)
    return Network().eval()


def export(torch, model, path, *, dynamic=True):
    """The file that torch writes: since 2.9 with its weights in a second file."""
    shapes = {"dynamic_shapes": ({0: torch.export.Dim("n")},)} if dynamic else {}
    quietly(
        torch.onnx.export, model, (torch.zeros(2, 4),), path, dynamo=True, input_names=["rows"], verbose=False, **shapes
    )
    return path


@pytest.mark.parametrize("last", ["margin", "sigmoid", "squeezed sigmoid"])
def test_a_binary_network_answers_as_in_torch(rows, tmp_path, last):
    """One output column, a logit or a probability: the margin is the last layer's."""
    torch = need("torch")
    model = network(torch, rows, 1, last)
    folder, _ = bring(tmp_path, export(torch, model, tmp_path / "given.onnx"), rows.with_label(rows.y))
    with torch.no_grad():
        expected = model.margin(torch.from_numpy(rows.X))
    predictions = served(folder, instances(rows.columns, NUMBERS))
    probability = torch.sigmoid(expected)[:, 0].numpy()
    np.testing.assert_allclose([one["probability"] for one in predictions], probability, atol=1e-5)
    margin, _ = run((folder / "model.onnx").read_bytes(), rows.X)
    np.testing.assert_allclose(margin, expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("last", ["margin", "softmax", "both"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_network_with_a_column_per_class_answers_as_in_torch(rows, tmp_path, classes, last):
    """Two columns are folded into one margin, their difference; four stay four."""
    torch = need("torch")
    model = network(torch, rows, classes, last)
    labels = rows.y if classes == 2 else rows.four
    folder, _ = bring(tmp_path, export(torch, model, tmp_path / "given.onnx"), rows.with_label(labels))
    with torch.no_grad():
        logits = model.margin(torch.from_numpy(rows.X))
    expected = torch.softmax(logits, dim=1).numpy()
    predictions = served(folder, instances(rows.columns, NUMBERS))
    if classes == 2:
        found = [[1 - one["probability"], one["probability"]] for one in predictions]
    else:
        found = [list(one["probabilities"].values()) for one in predictions]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    margin, _ = run((folder / "model.onnx").read_bytes(), rows.X)
    logits = logits.numpy()
    wanted = logits[:, 1:] - logits[:, :1] if classes == 2 else logits
    np.testing.assert_allclose(margin, wanted, rtol=1e-5, atol=1e-5)
    assert read_manifest(folder).link == ("logit" if classes == 2 else "softmax")


def test_nothing_of_the_exporting_machine_is_left(rows, tmp_path):
    """torch writes source lines and paths into the graph; the package has none of them."""
    torch = need("torch")
    path = export(torch, network(torch, rows, 1, "sigmoid"), tmp_path / "given.onnx")
    assert b"bringing" in path.read_bytes() or b"test_torch" in path.read_bytes()
    folder, _ = bring(tmp_path, path, rows.with_label(rows.y))
    for file in folder.iterdir():
        content = file.read_bytes()
        assert str(tmp_path).encode() not in content
        assert b".py" not in content
