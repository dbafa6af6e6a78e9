"""A user's network with an output of another shape than the state: one sentence, status 2, no weights."""

import shutil
from pathlib import Path

import pytest
from called import QUIET, TOY, run

WRONG = '''
"""Networks whose output a loss would broadcast."""

from domains.mixture import Network


class Column(Network):
    """(B, 1, 2) for states (B, 2)."""

    def forward(self, state, time, condition):
        return super().forward(state, time, condition)[:, None]


class Scalar(Network):
    """One number for the batch."""

    def forward(self, state, time, condition):
        return super().forward(state, time, condition).mean()
'''


@pytest.mark.parametrize(("network", "shape"), [("Column", "(64, 1, 2)"), ("Scalar", "()")])
def test_pretrain(network: str, shape: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(TOY / "domains", folder / "domains")
    (folder / "wrong_shapes.py").write_text(WRONG)
    message = run(
        "pretrain", "--config", "domains/mixture/pretrain.yaml", f"--model.backbone=wrong_shapes.{network}", *QUIET
    )
    assert f"has shape {shape}; it must have shape (64, 2)" in message.message
    assert not list(folder.rglob("*.safetensors"))
