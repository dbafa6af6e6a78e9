"""Parts of a batch in several threads: the same outputs, in order, with the precision of the caller."""

import threading

import pytest
import torch

import graft
from graft.core import seeding
from graft.core.datatypes import SampleRequest
from graft.core.state import fields_of
from graft.network.row_threads import FEWEST_ROWS, in_row_threads
from graft.policy import Policy


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Recorder:
    """Doubles the state and records each call: thread, rows, threads of an operation, type of a product."""

    def __init__(self):
        self.calls = []

    def __call__(self, state, time, condition):
        product = torch.ones(1, 1) @ torch.ones(1, 1)
        self.calls.append((threading.get_ident(), len(time), torch.get_num_threads(), product.dtype))
        return {name: 2 * field + time[:, None] + condition["a"] for name, field in state.items()}


def batch(rows):
    state = {"x": torch.randn(rows, 3), "h": torch.randn(rows, 2)}
    return state, torch.rand(rows), {"a": torch.randn(rows, 1)}


@torch.no_grad()
@pytest.mark.parametrize("rows", [2 * FEWEST_ROWS, 77])
def test_parts_are_in_order(two_threads, rows):
    network, arguments = Recorder(), batch(rows)
    expected = network(*arguments)
    network.calls.clear()
    got = in_row_threads(network)(*arguments)
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    assert sum(call[1] for call in network.calls) == rows and len(network.calls) == 2
    assert threading.get_ident() not in {call[0] for call in network.calls}
    assert {call[2] for call in network.calls} == {1}
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert (torch.get_num_threads(), *seen) == (2, 2)  # threads outside the pool keep their number


def test_one_call(two_threads):
    """Few rows, gradients and one thread: the network is called once, in the thread of the caller."""
    network = Recorder()
    called = in_row_threads(network)
    with torch.no_grad():
        called(*batch(2 * FEWEST_ROWS - 1))
    called(*batch(64))
    torch.set_num_threads(1)
    with torch.no_grad():
        called(*batch(64))
    assert [call[:2] for call in network.calls] == [(threading.get_ident(), n) for n in (31, 64, 64)]


def test_modes_of_the_caller(two_threads):
    network = Recorder()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        out = in_row_threads(network)(*batch(64))
    assert {call[3] for call in network.calls} == {torch.bfloat16} and len(network.calls) == 2
    assert out["x"].is_inference()
    network.calls.clear()
    with torch.no_grad():
        in_row_threads(network)(*batch(64))
    assert {call[3] for call in network.calls} == {torch.float32}


@torch.no_grad()
def test_an_error_of_a_part(two_threads):
    def network(state, time, condition):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_row_threads(network)(*batch(64))


@pytest.mark.parametrize("config", ["domains/molecule.yaml", "domains/layout.yaml", "domains/image.yaml"])
def test_samples_of_the_shipped_models(two_threads, config, monkeypatch):
    """Threads change nothing but the rounding."""
    module, _, _ = graft.load(config, "--model.steps=4", "--model.level=0.25", "--model.upper_level=1.0")
    assert module.policy._takes_threads
    calls = []
    networks = {id(network): network for network in module.policy.networks()}
    for network in networks.values():
        network.register_forward_pre_hook(lambda *_: calls.append(threading.get_ident()))
    assert len(graft.sample(module, 40, seed=1)) == 40
    assert len(set(calls)) == 2 and len(calls) == 8
    conditions = module.sample_conditions(40, seeding.make_generator(0, "conditions"))
    request = SampleRequest(conditions, seed_key=("test",))
    threaded = module.policy.sample(request, seeding.make_generator(0, "noise")).state
    monkeypatch.setattr(Policy, "_takes_threads", False)
    plain = module.policy.sample(request, seeding.make_generator(0, "noise")).state
    for got, expected in zip(fields_of(threaded), fields_of(plain), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
