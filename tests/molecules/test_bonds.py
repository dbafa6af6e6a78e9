"""The bond head: its input, its training, and that only data train it."""

import pytest
import torch
from mols import embedded

from domains.molecules import Molecules
from domains.molecules.backbone import EGNN, MessagePassingEGNN
from domains.molecules.bond_loss import cross_entropy
from domains.molecules.vocabulary import HEAVY
from graft import GraftError
from graft.core.datatypes import TrainingBatch
from graft.io.tensors import write_tensors
from graft.network import weights
from graft.process import Gaussian, MaskProjection, MultiFieldProcess, ZeroCenterOfMass
from graft.process.schedules import PolynomialSchedule


def test_the_bonds_of_propene():
    """A confident right output costs nothing, and a confident wrong one of one pair of three costs its logit."""
    mol = embedded("CC=C", HEAVY)
    x = torch.tensor(mol.GetConformer().GetPositions()).float()[None]
    types = [HEAVY.index[6, atom.GetTotalNumHs(), 0] for atom in mol.GetAtoms()]
    h, mask = torch.nn.functional.one_hot(torch.tensor([types]), len(HEAVY)).float(), torch.ones(1, 3)
    right = torch.nn.functional.one_hot(torch.tensor([[1, 0, 2]]), 4) * 50.0  # pairs 01, 02, 12
    assert cross_entropy(right, x, h, mask, HEAVY).item() == pytest.approx(0, abs=1e-6)
    wrong = torch.nn.functional.one_hot(torch.tensor([[1, 0, 1]]), 4) * 50.0
    assert cross_entropy(wrong, x, h, mask, HEAVY).item() == pytest.approx(50 / 3, rel=1e-5)
    padded = [torch.cat([t, torch.zeros_like(t[:, :1])], 1) for t in (x, h, mask)]
    more = torch.zeros(1, 6, 4)
    more[:, [0, 1, 3]] = right  # pairs 01 02 03 12 13 23
    assert cross_entropy(more, *padded, HEAVY).item() == pytest.approx(0, abs=1e-6)


def test_both_layouts_say_the_same():
    """Molecules of different sizes, and no pair of a molecule of one atom: the losses agree, one a molecule."""
    torch.manual_seed(0)
    dense, sparse = (
        EGNN(10, hidden_dim=8, num_layers=2, bond_loss_weight=0.1),
        MessagePassingEGNN(10, hidden_dim=8, num_layers=2, bond_loss_weight=0.1),
    )
    sparse.load_state_dict(dense.state_dict())
    mask = (torch.arange(5) < torch.tensor([[5], [3], [1], [4]])).float()
    x = torch.randn(4, 5, 3) * mask[..., None]
    h = torch.eye(10)[torch.randint(10, (4, 5))] * mask[..., None]
    losses = []
    for network in (dense, sparse):
        network({"x": x, "h": h}, torch.rand(4, generator=torch.Generator().manual_seed(1)), {"mask": mask})
        losses.append(cross_entropy(network.bond_logits.pop(), x, h, mask, HEAVY))
    torch.testing.assert_close(*losses)
    assert losses[0].shape == (4,) and losses[0][2] == 0 and (losses[0][[0, 1, 3]] > 0).all()


def test_a_checkpoint_with_the_head_fits_a_network_without(tmp_path):
    """The other way round the message names the missing tensors."""
    with_head, without = (
        EGNN(10, hidden_dim=8, num_layers=1, bond_loss_weight=0.1),
        EGNN(10, hidden_dim=8, num_layers=1),
    )
    for network, other in ((with_head, without), (without, with_head)):
        write_tensors(tmp_path / "a.safetensors", {f"backbone/{n}": t for n, t in network.state_dict().items()})
        if other.bonds is None:
            weights.read_reference(other, str(tmp_path / "a.safetensors"))
            assert torch.equal(other.embed.weight, network.embed.weight)
        else:
            with pytest.raises(GraftError, match=r"bonds\.bias is absent there"):
                weights.read_reference(other, str(tmp_path / "a.safetensors"))


def test_data_train_bonds_and_later_states_do_not():
    torch.manual_seed(0)
    x = Gaussian(PolynomialSchedule(), "x0", [4, 3], projection=ZeroCenterOfMass())
    h = Gaussian(PolynomialSchedule(), "logits", [4, 10], projection=MaskProjection())
    made = Molecules(
        EGNN(num_types=10, hidden_dim=8, num_layers=1, bond_loss_weight=0.05), MultiFieldProcess({"x": x, "h": h})
    )
    state = {"x": torch.randn(6, 4, 3), "h": torch.eye(10)[torch.randint(10, (6, 4))]}
    batch = TrainingBatch(state, {"mask": torch.ones(6, 4)})
    made.policy.loss(batch).backward()
    assert made.policy.backbone.bonds.weight.grad.abs().max() > 0
    made.zero_grad()
    made.policy.loss(TrainingBatch(state, {"mask": torch.ones(6, 4)}, from_level=0.5)).backward()
    assert made.policy.backbone.bonds.weight.grad is None
    with made.policy.eval_weights():
        made.policy.backbone(state, torch.ones(6), batch.condition)
    assert not made.policy.backbone.bond_logits
