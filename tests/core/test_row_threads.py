"""Parts of a batch in several threads: the same outputs, in order, with the precision of the caller."""

import threading

import pytest
import torch

import graft
from graft.core import seeding
from graft.core.datatypes import SampleRequest
from graft.core.state import fields_of
from graft.network.row_threads import PART, in_row_threads
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
@pytest.mark.parametrize("rows", [2 * PART, PART + 13])
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
    """The network is called once with few rows and with gradients."""
    network = Recorder()
    called = in_row_threads(network)
    with torch.no_grad():
        called(*batch(PART))
    called(*batch(PART + 1))
    assert [call[:2] for call in network.calls] == [(threading.get_ident(), n) for n in (PART, PART + 1)]


@torch.no_grad()
def test_one_thread_has_the_same_parts(two_threads):
    network = Recorder()
    torch.set_num_threads(1)
    in_row_threads(network)(*batch(2 * PART + 1))
    assert [call[:2] for call in network.calls] == [(threading.get_ident(), n) for n in (PART, PART, 1)]


def test_modes_of_the_caller(two_threads):
    network = Recorder()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        out = in_row_threads(network)(*batch(2 * PART))
    assert {call[3] for call in network.calls} == {torch.bfloat16} and len(network.calls) == 2
    assert out["x"].is_inference()
    network.calls.clear()
    with torch.no_grad():
        in_row_threads(network)(*batch(2 * PART))
    assert {call[3] for call in network.calls} == {torch.float32}


@torch.no_grad()
def test_an_error_of_a_part(two_threads):
    def network(state, time, condition):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_row_threads(network)(*batch(2 * PART))


@pytest.mark.parametrize("config", ["domains/molecule.yaml", "domains/layout.yaml", "domains/image.yaml"])
def test_samples_of_the_shipped_models(two_threads, config, monkeypatch):
    """The number of threads changes nothing, and the parts nothing but the rounding."""
    module, _, _ = graft.load(config, "--model.steps=4", "--model.level=0.25", "--model.upper_level=1.0")
    assert module.policy._takes_threads
    threads = set()
    for network in module.policy.networks():
        network.register_forward_pre_hook(lambda *_: threads.add(threading.get_ident()))
    conditions = module.sample_conditions(PART + 16, seeding.make_generator(0, "conditions"))
    request = SampleRequest(conditions, seed_key=("test",))

    def drawn():
        return fields_of(module.policy.sample(request, seeding.make_generator(0, "noise")).state)

    two = drawn()
    assert len(threads) == 2 and threading.get_ident() not in threads
    torch.set_num_threads(1)
    one = drawn()
    monkeypatch.setattr(Policy, "_takes_threads", False)
    whole = drawn()
    for field, alone, expected in zip(two, one, whole, strict=True):
        assert torch.equal(field, alone)
        torch.testing.assert_close(field, expected, rtol=1e-4, atol=1e-4)
