"""The training of the feature network of layouts."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from domains.layouts.features import Encoder, load_encoder
from domains.layouts.train_features import train
from graft.cli.script import script
from graft.errors import GraftError
from graft.io.tensors import write_tensors


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A file of 40 layouts of three elements."""
    generator = np.random.default_rng(0)
    boxes = np.concatenate([generator.uniform(0.3, 0.7, (40, 3, 2)), generator.uniform(0.1, 0.3, (40, 3, 2))], 2)
    labels = generator.integers(0, 5, (40, 3))
    np.savez(tmp_path / "pages.npz", boxes=boxes, labels=labels, mask=np.ones((40, 3)))
    return str(tmp_path / "pages.npz")


def test_training_that_diverges(source: str, tmp_path: Path) -> None:
    """Training ends at that step and writes nothing."""
    out = tmp_path / "a.safetensors"
    with pytest.raises(GraftError, match=r"the (loss|gradient) of step \d is (nan|inf): lower learning_rate \(now "):
        train(str(out), source, elements=3, width=8, layers=2, steps=9, batch_size=8, learning_rate=1e30)
    assert not out.exists()
    train(str(out), source, elements=3, width=8, layers=2, steps=9, batch_size=8)
    assert load_encoder(str(out)).width == 8


def test_its_command_line(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and status 2."""
    args = ["--out", str(tmp_path / "a.safetensors"), "--source", source, "--elements", "3", "--steps", "9"]
    monkeypatch.setattr(sys, "argv", ["train_features", *args, "--learning_rate", "1e30", "--layers", "2"])
    with pytest.raises(SystemExit) as ended:
        script(train, "help")
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("graft: the ") and len(message.splitlines()) == 1, message


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    network = Encoder(("text",), width=8, layers=1, heads=1)
    network.token.data[0, 0, 0] = torch.nan
    with pytest.raises(GraftError, match="was not written: the tensor token holds values that are not finite"):
        network.save(str(tmp_path / "a.safetensors"), {})
    note = {"network": {"names": ["text"], "width": 8, "layers": 1, "heads": 1}}
    write_tensors(tmp_path / "b.safetensors", dict(network.state_dict()), note)
    with pytest.raises(GraftError, match=r"b.safetensors: the tensor token holds values"):
        load_encoder(str(tmp_path / "b.safetensors"))
