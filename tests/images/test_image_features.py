"""Feature networks: those that ship, one trained here, Inception's way in."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from domains.images.classifier import ClassifierFeatures, Network, load_classifier
from domains.images.dataset import digits
from domains.images.features import Pixels
from domains.images.inception import Inception
from domains.images.pixels import to_float, to_pil
from domains.images.train_classifier import train
from graft.errors import GraftError


@pytest.mark.parametrize("name", ["features", "classifier"])
def test_those_that_ship_know_the_digits(name: str) -> None:
    found = digits.read_digits()
    pixels = to_float(torch.from_numpy(found.pixels).movedim(-1, 1))
    network, names = load_classifier(f"domains/images/reference/{name}.safetensors")
    right = network(pixels).argmax(1).numpy() == found.labels
    assert names == [str(i) for i in range(10)] and right.mean() > 0.995


def test_other_sizes_and_channels_are_brought_to_its_own() -> None:
    features = ClassifierFeatures()
    small = torch.from_numpy(digits.read_digits().pixels[:20]).movedim(-1, 1)
    colour = small.expand(-1, 3, -1, -1)
    assert torch.allclose(features.of_pixels(small), features.of_pixels(colour), atol=1e-5)
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert features.of_pixels(large).shape == (20, features.size)
    same = features.probabilities(to_pil(large)).argmax(1) == features.probabilities(to_pil(small)).argmax(1)
    assert same.float().mean() > 0.9


def test_pixels() -> None:
    grey = [Image.new("RGB", (6, 4), (30, 60, 90)), Image.new("RGB", (6, 4), (255, 255, 255))]
    assert torch.allclose(Pixels(2)(grey), torch.tensor([60 / 255, 1.0])[:, None].expand(2, 4), atol=1e-6)
    assert Pixels(2)([]).shape == (0, 4)
    with pytest.raises(GraftError):
        Pixels(0)


def test_training(tmp_path: Path) -> None:
    """Training learns bright against dark in a few steps, and writes the trained network."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    images = (rng.integers(0, 100, (200, 8, 8)) + 150 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    before = torch.get_rng_state()
    found = train(str(tmp_path / "a.safetensors"), str(tmp_path / "data.npz"), width=4, features=8, steps=40)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.held_out == 1
    features = ClassifierFeatures(str(tmp_path / "a.safetensors"))
    seen = features.probabilities(to_pil(torch.from_numpy(images)[:, None])).argmax(1)
    assert (seen.numpy() == labels).all() and features.size == 8 and features.names == ["0", "1"]
    train(str(tmp_path / "b.safetensors"), str(tmp_path / "data.npz"), width=4, features=8, steps=40)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    np.savez(tmp_path / "plain.npz", images=images)
    with pytest.raises(GraftError, match="needs labels"):
        train(str(tmp_path / "c.safetensors"), str(tmp_path / "plain.npz"))
    with pytest.raises(GraftError, match=r"of step \d is (nan|inf): lower learning_rate"):
        train(str(tmp_path / "d.safetensors"), str(tmp_path / "data.npz"), steps=9, learning_rate=1e30)
    assert not (tmp_path / "d.safetensors").exists()


def test_a_network_of_any_size() -> None:
    assert Network(channels=3, side=33, classes=4, width=8, size=5)(torch.zeros(2, 3, 64, 48)).shape == (2, 4)


def test_inception_is_given_colour_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(nn.Module):
        def __init__(self, name: str, features: list[str], path: "str | None") -> None:
            super().__init__()
            assert (name, features, path) == ("inception-v3-compat", ["64"], None)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.dtype == torch.uint8 and x.shape[1:] == (3, 4, 6)
            return x.float().flatten(1).mean(1, keepdim=True).expand(-1, 64)

    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Network)
    found = Inception(64)([Image.new("L", (6, 4), 77), Image.new("L", (6, 4), 200)])
    assert found[:, 0].tolist() == [77, 200]


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is not None, reason="torch-fidelity is installed")
def test_inception_says_what_is_missing() -> None:
    with pytest.raises(GraftError, match=r"graft-diffusion\[inception\]"):
        Inception()
