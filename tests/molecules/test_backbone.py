import pytest
import torch

from domains.molecules.backbone import EGNN, MessagePassingEGNN
from domains.molecules.pairs import complete_graph_pairs

TYPES, ATOMS = 5, 6
COUNTS = torch.tensor([6, 1, 4, 2, 3])
BOTH = pytest.mark.parametrize("kind", [EGNN, MessagePassingEGNN])


def network(kind, **options):
    """A small float64 network with every term large enough to be seen."""
    torch.manual_seed(0)
    net = kind(TYPES, hidden_dim=16, num_layers=3, **options).double()
    for layer in net.layers:
        torch.nn.init.normal_(layer.shift.weight, std=0.5)
    return net


def inputs(seed=1):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(ATOMS) < COUNTS[:, None]).double()
    x = torch.randn(len(COUNTS), ATOMS, 3, generator=generator, dtype=torch.double) * mask[..., None]
    x = (x - x.sum(1, keepdim=True) / COUNTS[:, None, None]) * mask[..., None]
    h = torch.randn(len(COUNTS), ATOMS, TYPES, generator=generator, dtype=torch.double) * mask[..., None]
    time = torch.tensor([0.0, 0.01, 0.3, 0.7, 1.0], dtype=torch.double)
    return {"x": x, "h": h}, time, {"mask": mask}


@torch.no_grad()
def call(net, state, time, condition):
    out = net(state, time, condition)
    return out["x"], out["h"]


@BOTH
@pytest.mark.parametrize("reflect", [False, True])
def test_rotations_and_reflections_turn_positions_and_leave_types(kind, reflect):
    net, (state, time, condition) = network(kind), inputs()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.double))[0]
    turn = turn * turn.det() * (-1 if reflect else 1)
    assert float(turn.det()) == pytest.approx(-1 if reflect else 1)
    x, h = call(net, state, time, condition)
    turned, same = call(net, {**state, "x": state["x"] @ turn}, time, condition)
    assert not torch.allclose(x, state["x"], atol=0.1)
    assert torch.allclose(turned, x @ turn, atol=1e-5)
    assert torch.allclose(same, h, atol=1e-5)


@BOTH
def test_translations_change_nothing(kind):
    net, (state, time, condition) = network(kind), inputs()
    moved = state["x"] + torch.tensor([1.0, -2.0, 3.0], dtype=torch.double) * condition["mask"][..., None]
    for a, b in zip(call(net, state, time, condition), call(net, {**state, "x": moved}, time, condition), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


@BOTH
def test_the_order_of_atoms_carries_over(kind):
    net, (state, time, condition) = network(kind), inputs()
    order = torch.randperm(ATOMS, generator=torch.Generator().manual_seed(3))
    permuted = {name: field[:, order] for name, field in state.items()}
    x, h = call(net, state, time, condition)
    other_x, other_h = call(net, permuted, time, {"mask": condition["mask"][:, order]})
    assert torch.allclose(other_x, x[:, order], atol=1e-5)
    assert torch.allclose(other_h, h[:, order], atol=1e-5)


@BOTH
def test_positions_have_zero_centre_and_padding_stays_zero(kind):
    net, (state, time, condition) = network(kind), inputs()
    x, h = call(net, state, time, condition)
    assert x.sum(1).abs().max() < 1e-10
    assert not x[condition["mask"] == 0].any()
    assert not h[condition["mask"] == 0].any()
    assert torch.isfinite(x).all() and torch.isfinite(h).all()


@BOTH
def test_padding_has_no_influence(kind):
    net, (state, time, condition) = network(kind), inputs()
    x, h = call(net, state, time, condition)
    hidden = 1 - condition["mask"][..., None]
    rubbish = {name: field + 7 * hidden for name, field in state.items()}
    wide = {name: torch.nn.functional.pad(field, (0, 0, 0, 3)) for name, field in state.items()}
    others = [
        call(net, rubbish, time, condition),
        call(net, wide, time, {"mask": torch.nn.functional.pad(condition["mask"], (0, 3))}),
    ]
    for other_x, other_h in others:
        assert torch.allclose(other_x[:, :ATOMS], x, atol=1e-10)
        assert torch.allclose(other_h[:, :ATOMS], h, atol=1e-10)


@BOTH
def test_a_molecule_does_not_depend_on_its_batch(kind):
    net, (state, time, condition) = network(kind), inputs()
    x, h = call(net, state, time, condition)
    for i in range(len(COUNTS)):
        row = slice(i, i + 1)
        one_x, one_h = call(net, {k: v[row] for k, v in state.items()}, time[row], {"mask": condition["mask"][row]})
        assert torch.allclose(one_x, x[row], atol=1e-10)
        assert torch.allclose(one_h, h[row], atol=1e-10)


def test_dense_and_message_passing_are_one_network():
    dense, messages = network(EGNN), network(MessagePassingEGNN)
    state, time, condition = inputs()
    with torch.no_grad():
        for parameter in dense.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    messages.load_state_dict(dense.state_dict())
    dense_out, message_out = dense(state, time, condition), messages(state, time, condition)
    for name, value in dense_out.items():
        assert torch.allclose(value, message_out[name], atol=1e-10)
    sum(v.square().sum() for v in dense_out.values()).backward()
    sum(v.square().sum() for v in message_out.values()).backward()
    for (name, a), b in zip(dense.named_parameters(), messages.parameters(), strict=True):
        assert a.grad is not None and a.grad.abs().max() > 0, name
        assert torch.allclose(a.grad, b.grad, atol=1e-8), name


@BOTH
def test_without_noise_an_untrained_network_returns_its_input(kind):
    net, (state, _, condition) = network(kind), inputs()
    for layer in net.layers:
        torch.nn.init.zeros_(layer.shift.weight)
    x, _ = call(net, state, torch.zeros(len(COUNTS), dtype=torch.double), condition)
    assert torch.allclose(x, state["x"])


@BOTH
def test_coinciding_atoms_have_finite_gradients(kind):
    net, (state, time, condition) = network(kind), inputs()
    x = torch.zeros_like(state["x"]).requires_grad_()
    out = net({**state, "x": x}, time, condition)
    (out["x"].square().sum() + out["h"].square().sum()).backward()
    assert torch.isfinite(x.grad).all()


def test_pairs_are_all_and_each_once():
    assert complete_graph_pairs(torch.tensor([3, 1, 2])).T.tolist() == [[0, 1], [0, 2], [1, 2], [4, 5]]


@pytest.mark.parametrize("cls", [EGNN, MessagePassingEGNN])
def test_half_precision_leaves_the_geometry_alone(cls):
    """Under bfloat16 autocast positions and their differences stay exact, so that a bond's hundredths are not lost."""
    torch.manual_seed(0)
    net = cls(num_types=5, hidden_dim=32, num_layers=3)
    mask = (torch.arange(29) < torch.tensor([9, 20, 29])[:, None]).float()
    state = {"x": 3 * torch.randn(3, 29, 3) * mask[..., None], "h": torch.randn(3, 29, 5) * mask[..., None]}
    full = net(state, torch.full((3,), 0.01), {"mask": mask})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = net(state, torch.full((3,), 0.01), {"mask": mask})
        sum(out.square().mean() for out in half.values()).backward()
    assert all(half[name].dtype == torch.float32 for name in half)
    assert (full["x"] - half["x"]).abs().max() < 1e-3 and (full["h"] - half["h"]).abs().max() < 0.05
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
