"""Checkpoints of a user's own network load into a wrapper of it, whole or not at all."""

import os
import re
from pathlib import Path
from typing import Any

import plane
import pytest
import torch
from lightning.pytorch import LightningModule
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

import graft
from graft import GraftError, cli
from graft.io.tensors import read_tensors
from graft.network.weights import is_reference
from graft.process import Gaussian, LinearSchedule

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's


class Own(nn.Module):
    """A network of the user's, with a buffer and two names for one tensor."""

    def __init__(self, width: int = 8, tied: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, 2)
        if tied:
            self.again = nn.Linear(width, width)
            self.again.weight = self.second.weight


class Wrapped(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, state: Tensor, time: Tensor, condition: Any) -> Tensor:
        x = torch.cat([state, time[:, None]], 1)
        return self.net.last(self.net.second(self.net.norm(self.net.first(x))))


class Lit(LightningModule):
    def __init__(self, net: nn.Module, more: "dict[str, nn.Module] | None" = None) -> None:
        super().__init__()
        self.model = net
        for name, module in (more or {}).items():
            setattr(self, name, module)


def own(seed: int = 1, **settings: Any) -> Own:
    torch.manual_seed(seed)
    made = Own(**settings)
    with torch.no_grad():
        made.norm.running_mean.normal_()
        made.norm.num_batches_tracked.fill_(7)
    return made


def load(weights: Any, backbone: "nn.Module | None" = None, **settings: Any) -> plane.Plane:
    backbone = Wrapped(own(0)) if backbone is None else backbone
    return plane.Plane(backbone, Gaussian(LinearSchedule(), "velocity", [2]), weights, steps=4, **settings)


def compiled(net: nn.Module) -> nn.Module:
    return torch.compile(net)  # type: ignore[return-value]  # not called, so nothing is compiled


def lightning(module: LightningModule, path: Path) -> None:
    trainer = graft.trainer(accelerator="cpu", enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)


def inner(net: Own) -> nn.Module:
    """Compiled in two parts."""
    net.first, net.last = compiled(net.first), compiled(net.last)  # type: ignore[assignment]
    return net


def named(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def script(net: nn.Module) -> dict[str, Any]:
    """Return the file of a training script."""
    return {"model": net.state_dict(), "optimizer": torch.optim.AdamW(net.parameters()).state_dict(), "epoch": 3}


SAVED = {
    "plain.pt": lambda net, path: torch.save(net.state_dict(), path),
    "wrapped.pth": lambda net, path: torch.save(Wrapped(net).state_dict(), path),
    "plain.safetensors": lambda net, path: save_file(net.state_dict(), path),
    "model.safetensors": lambda net, path: save_model(net, str(path)),
    "lightning.ckpt": lambda net, path: lightning(Lit(net), path),
    "ddp.pt": lambda net, path: torch.save(named(net.state_dict(), "module."), path),
    "compiled.pt": lambda net, path: torch.save(compiled(net).state_dict(), path),
    "lightning_compiled.ckpt": lambda net, path: lightning(Lit(compiled(net)), path),
    "parts.pt": lambda net, path: torch.save(inner(net).state_dict(), path),
    "deep.bin": lambda net, path: torch.save(named(net.state_dict(), "a.module._orig_mod.b."), path),
    "script.pt": lambda net, path: torch.save(script(net), path),
    "half.pt": lambda net, path: torch.save(half(net.state_dict()), path),
}


@pytest.mark.parametrize("name", SAVED)
@pytest.mark.parametrize("tied", [False, True], ids=["", "tied"])
def test_found_prefixes(name: str, tied: bool, tmp_path: Path) -> None:
    if name == "plain.safetensors" and tied:
        pytest.skip("safetensors refuses to write one tensor under two names")
    net = own(tied=tied)
    right = {key: value.clone() for key, value in net.state_dict().items()}
    SAVED[name](net, tmp_path / name)
    for backbone in (Wrapped(own(0, tied=tied)), compiled(Wrapped(own(0, tied=tied)))):
        module = load(str(tmp_path / name), backbone)
        found = {
            k.replace("_orig_mod.", "").removeprefix("net."): v for k, v in module.policy.backbone.state_dict().items()
        }
        assert found.keys() == right.keys()
        if name == "half.pt":
            right = half(right)
        assert all(torch.equal(found[key], value.to(found[key].dtype)) for key, value in right.items())


def part(path: Path, **parts: nn.Module) -> str:
    lightning(Lit(own(1), parts), path)
    return str(path)


def test_a_prefix_takes_a_part_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = part(tmp_path / "w.ckpt", ema=own(2), loss=nn.Linear(2, 2))
    with pytest.raises(GraftError, match=r"weights_prefix: model\., which leaves out \d+; ema\., which leaves out \d+"):
        load(weights)
    for prefix, seed in (("model.", 1), ("ema", 2), ("ema.", 2)):
        capsys.readouterr()
        module = load(weights, weights_prefix=prefix)
        assert torch.equal(module.policy.backbone.net.first.weight, own(seed).first.weight)  # type: ignore[union-attr]
        message = capsys.readouterr().out
        assert f"below {prefix.rstrip('.')}. are loaded" in message and "others are not" in message
    with pytest.raises(
        GraftError, match=r"is 'nothing'; the names in .* begin with model\., ema\., loss\., and it must be one"
    ):
        load(weights, weights_prefix="nothing")
    with pytest.raises(GraftError, match="does not fit the network"):
        load(weights, weights_prefix="loss")
    with pytest.raises(GraftError, match="weights_prefix: model"):  # one way, but a part of the file is no network's
        load(part(tmp_path / "v.ckpt", loss=nn.Linear(2, 2)))
    torch.save({"model": own(1).state_dict(), "ema": own(2).state_dict()}, tmp_path / "both.pt")
    with pytest.raises(GraftError, match="weights_prefix"):
        load(tmp_path / "both.pt")
    assert torch.equal(
        load(tmp_path / "both.pt", weights_prefix="ema").policy.backbone.net.last.bias,  # type: ignore[union-attr]
        own(2).last.bias,
    )


WRONG = {
    "missing": lambda s: {k: v for k, v in s.items() if k != "last.bias"},
    "missing buffer": lambda s: {k: v for k, v in s.items() if k != "norm.running_var"},
    "one more": lambda s: {**s, "extra.weight": torch.ones(3)},
    "another shape": lambda s: {**s, "second.weight": torch.ones(8, 9)},
    "renamed": lambda s: {k.replace("second", "middle"): v for k, v in s.items()},
    "two prefixes": lambda s: {("a." if k.startswith("first") else "b.") + k: v for k, v in s.items()},
    "integers": lambda s: {**s, "last.bias": torch.ones(2, dtype=torch.int8)},
    "another": lambda s: nn.Linear(3, 3).state_dict(),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("prefix", ["", "model."])
def test_never_a_part(name: str, prefix: str, tmp_path: Path) -> None:
    """A missing, additional or misshapen tensor is named, with both sides."""
    state = WRONG[name](own(1).state_dict())
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "w.pt")
    before = Wrapped(own(0))
    with pytest.raises(GraftError) as caught:
        load(str(tmp_path / "w.pt"), before)
    message = str(caught.value)
    assert "w.pt" in message and "Wrapped" in message and "\n" not in message and len(message) < 700
    if name != "integers":
        assert (
            "weights_prefix" in message
            and f"it has {len(state)} tensors" in message
            and "the network has 11 (" in message
        )
    named = {"missing": "net.last.bias is absent there and 2", "one more": "extra.weight is 3 there and absent",
             "another shape": "net.second.weight is 8x9 there and 8x8", "renamed": "and 4 more"}  # fmt: skip
    if name in named and name != "renamed":
        assert named[name] in message
    after, own_state = before.state_dict(), Wrapped(own(0)).state_dict()
    assert all(torch.equal(after[key], own_state[key]) for key in own_state)  # nothing was put


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "made"),)

    cases = {"evil.pt": {"a": Evil()}, "evil.ckpt": {"state_dict": own().state_dict(), "hyper_parameters": Evil()},
             "whole.pt": own(), "list.pt": [1, 2], "none.pt": {"epoch": 3}}  # fmt: skip
    for name, content in cases.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(GraftError, match=r"save the network's( state dict alone)?, torch\.save"):
            load(str(tmp_path / name))
    assert not (tmp_path / "made").exists()


def test_a_network_in_memory(tmp_path: Path) -> None:
    """The network is the reference; a run continues with it alone, also from the file that the run kept."""
    net = plane.made(tmp_path).policy.backbone
    module = plane.made(tmp_path, weights=net)
    assert module.policy.reference_file and module.policy.reference_file["path"] == "a network in memory"
    as_dict = plane.made(tmp_path, weights=net.state_dict())
    prefixed = plane.made(tmp_path, weights={f"m.{k}": v for k, v in net.state_dict().items()})
    assert module.policy.reference_file == as_dict.policy.reference_file == prefixed.policy.reference_file
    with torch.no_grad():
        net.net[0].weight.add_(1)
    assert not torch.equal(module.policy.backbone.net[0].weight, net.net[0].weight)  # a copy
    other = plane.made(tmp_path, weights=net)
    assert (
        other.policy.reference_file and other.policy.reference_file["sha256"] != module.policy.reference_file["sha256"]
    )

    data = plane.data(lambda p: p[0], alarms=None)
    graft.fit(module, data, tmp_path / "run", plane.trainer(1))
    kept = tmp_path / "run/checkpoints/reference.safetensors"
    _, about = read_tensors(tmp_path / "run/tuned.safetensors")
    assert about["reference"]["relative_path"] == "checkpoints/reference.safetensors" and str(tmp_path) not in str(
        about
    )
    assert is_reference(kept, about["reference"]["sha256"])  # as graft sample finds it
    again = plane.made(tmp_path, weights=str(kept))
    again.load_weights(tmp_path / "run/tuned.safetensors")
    assert again.policy.reference_file == module.policy.reference_file
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    again.on_load_checkpoint(checkpoint)
    for stranger in (other, plane.made(tmp_path, weights=plane.weights(tmp_path))):
        with pytest.raises(GraftError, match=r"tuned from .*reference"):
            stranger.on_load_checkpoint(checkpoint)
        with pytest.raises(GraftError, match="tuned from another reference"):
            stranger.load_weights(tmp_path / "run/tuned.safetensors")
    for wrong in ({"a": 1.0}, {1: torch.ones(1)}, {}):
        with pytest.raises(GraftError, match=r"model\.weights|does not fit"):
            plane.made(tmp_path, weights=wrong)


@pytest.mark.needs("peft")
def test_lora_keeps_its_reference_in_memory_too(tmp_path: Path) -> None:
    from graft.network import LoRA

    module = plane.made(tmp_path, weights=plane.Net(), lora=LoRA(2, target_modules=["net.0"]))
    data = plane.data(lambda p: p[0], alarms=None, validation_draws=0)
    graft.fit(module, data, tmp_path / "run", plane.trainer(1))
    kept = str(tmp_path / "run/checkpoints/reference.safetensors")
    again = plane.made(tmp_path, weights=kept, lora=LoRA(2, target_modules=["net.0"]))
    again.load_weights(tmp_path / "run/tuned.safetensors")
    assert re.fullmatch(r"[0-9a-f]{64}", again.policy.reference_file["sha256"])  # type: ignore[index]
