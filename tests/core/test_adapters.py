"""LoRA adapters: the reference is the network without them, and they are switched once for all steps of a stage."""

import copy

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from graft.core.datatypes import SampleRequest
from graft.core.state import Condition, as_tensor
from graft.network import LoRA, adapter_disabled
from graft.policy import Policy
from graft.process import Gaussian, LinearSchedule

pytestmark = pytest.mark.needs("peft")
STEPS, COUNT = 8, 5
PROCESS = Gaussian(LinearSchedule(), "velocity", [3], eta=0.0)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return self.layer(torch.cat([state, time[:, None]], 1))  # type: ignore[no-any-return]


def adapted(level: float = 0.0) -> tuple[Policy, nn.Module]:
    """Return a policy with adapters that change the network, and the network without them."""
    torch.manual_seed(0)
    network = Network()
    plain = copy.deepcopy(network)
    policy = Policy(network, PROCESS, STEPS, level, lora=LoRA(rank=2), reference_file={"path": "", "sha256": ""})
    with torch.no_grad():
        for name, parameter in policy.backbone.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return policy, plain


def sample(policy: Policy, weights: str) -> Tensor:
    request = SampleRequest({"row": torch.zeros(COUNT)}, (0,), weights)  # type: ignore[arg-type]
    return as_tensor(policy.sample(request, torch.Generator().manual_seed(1)).state)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_samples_of_the_reference_are_those_of_the_plain_network(level: float) -> None:
    policy, plain = adapted(level)
    alone = Policy(plain, PROCESS, STEPS)
    expected = sample(alone, "tuned")
    assert torch.equal(sample(policy, "reference"), expected)
    assert not torch.allclose(sample(policy, "tuned"), expected)


def test_switched_once_for_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, _ = adapted(0.5)
    switched: list[bool] = []
    for module in policy.backbone.modules():
        if hasattr(module, "lora_A"):
            enable = module.enable_adapters
            monkeypatch.setattr(module, "enable_adapters", lambda on, of=enable: (switched.append(on), of(on)))
    for weights in ("reference", "tuned"):
        sample(policy, weights)
        assert switched == [False, True]
        switched.clear()


def test_switched_on_again() -> None:
    policy, plain = adapted()
    x, time = torch.randn(COUNT, 3), torch.ones(COUNT)
    tuned = policy.backbone(x, time, {})
    trained = {name: p.requires_grad for name, p in policy.backbone.named_parameters()}
    with pytest.raises(ValueError, match="within"), policy.without_adapters(), policy.without_adapters():
        assert torch.equal(policy.backbone(x, time, {}), plain(x, time, {}))
        raise ValueError("within")
    assert torch.equal(policy.backbone(x, time, {}), tuned)
    assert {name: p.requires_grad for name, p in policy.backbone.named_parameters()} == trained
    assert sum(trained.values()) == 2
    with adapter_disabled(plain):  # a network without adapters
        assert torch.equal(plain(x, time, {}), policy.reference_forward(x, time, {}))
