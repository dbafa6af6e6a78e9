"""The head that says bonds: what it is asked, that it learns, and that only data ask it."""

import pytest
import torch
from mols import embedded

from domains.molecules import Molecules
from domains.molecules.bonds import BondedEGNN, cross_entropy
from domains.molecules.chemistry import HEAVY
from graft.batches import Examples
from graft.process import Gaussian, Masked, Mixed, ZeroCentre
from graft.process.schedules import Polynomial


def test_the_bonds_of_propene():
    """Certain and right costs nothing, certain and wrong of one pair of three what that logit says."""
    mol = embedded("CC=C", HEAVY)
    x = torch.tensor(mol.GetConformer().GetPositions()).float()[None]
    types = [HEAVY.index[(6, atom.GetTotalNumHs())] for atom in mol.GetAtoms()]
    h, mask = torch.nn.functional.one_hot(torch.tensor([types]), len(HEAVY)).float(), torch.ones(1, 3)
    right = torch.nn.functional.one_hot(torch.tensor([[1, 0, 2]]), 4) * 50.0  # pairs 01, 02, 12
    assert cross_entropy(right, x, h, mask, HEAVY).item() == pytest.approx(0, abs=1e-6)
    wrong = torch.nn.functional.one_hot(torch.tensor([[1, 0, 1]]), 4) * 50.0
    assert cross_entropy(wrong, x, h, mask, HEAVY).item() == pytest.approx(50 / 3, rel=1e-5)
    padded = [torch.cat([t, torch.zeros_like(t[:, :1])], 1) for t in (x, h, mask)]
    more = torch.zeros(1, 6, 4)
    more[:, [0, 1, 3]] = right  # pairs 01 02 03 12 13 23
    assert cross_entropy(more, *padded, HEAVY).item() == pytest.approx(0, abs=1e-6)


def test_data_ask_for_bonds_and_later_states_do_not():
    torch.manual_seed(0)
    x = Gaussian(Polynomial(), "x0", [4, 3], project=ZeroCentre())
    h = Gaussian(Polynomial(), "logits", [4, 10], project=Masked())
    made = Molecules(BondedEGNN(types=10, width=8, layers=1), Mixed({"x": x, "h": h}))
    state = {"x": torch.randn(6, 4, 3), "h": torch.eye(10)[torch.randint(10, (6, 4))]}
    asked = Examples(state, {"mask": torch.ones(6, 4)})
    made.loss(asked).backward()
    assert made.backbone.bonds.weight.grad.abs().max() > 0
    made.zero_grad()
    made.loss(Examples(state, {"mask": torch.ones(6, 4)}, level=0.5)).backward()
    assert made.backbone.bonds.weight.grad is None
    with made.sampling():
        made.backbone(state, torch.ones(6), asked.condition)
    assert not made.backbone.said
