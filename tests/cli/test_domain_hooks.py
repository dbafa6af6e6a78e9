"""Lightning's hooks do graft's work for every domain, also if the domain overrides them."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import broken
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from safetensors.torch import load_file
from test_not_finite import QUICK, plane_of, trained
from trained import rollouts_of, training

import graft
from graft.cli import IGNORED_WARNINGS
from graft.core.datatypes import SampleRequest
from graft.core.seeding import make_generator
from graft.errors import GraftError
from graft.runs.checkpoint import read_checkpoint
from graft.runs.interruption import Interrupted
from graft.runs.sharding import FullyShard

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in IGNORED_WARNINGS]
SHIPPED = [
    "domains/molecule.yaml",
    "domains/layout.yaml",
    pytest.param("domains/image.yaml", marks=pytest.mark.needs("diffusers")),
]
SETTINGS: dict[str, Any] = training(0.01, ema_decay=0.5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a reference."""
    folder = tmp_path_factory.mktemp("plane")
    graft.pretrain(plane_of(broken.Network()), broken.Points(), folder, trained(1), draws=8)
    return str(folder / "reference.safetensors")


@pytest.mark.parametrize("config", [*SHIPPED, "a user's"])
def test_ranks_that_share_a_network_stay_in_step(config: str) -> None:
    """A rank that is out of memory does not call the network more often than the others, as it may alone."""
    module: Any = plane_of(broken.Network(), broken.Deaf) if config == "a user's" else graft.load(config)[0]
    whole = SampleRequest(module.conditions_for(("test",), 0, 4, make_generator(0)), ("test", 0), "tuned")
    calls: list[int] = []

    def full(state: Any, time: torch.Tensor, condition: Any) -> Any:
        calls.append(len(time))
        if len(time) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        raise RuntimeError("it fits")

    module.policy.backbone.forward = full
    for strategy, error in ((FullyShard.__new__(FullyShard), "4 draws at a time on ranks"), (None, "it fits")):
        module._trainer = SimpleNamespace(strategy=strategy, world_size=1, datamodule=None)
        module.setup("fit")
        with pytest.raises((GraftError, RuntimeError), match=error):
            module.predict_step(whole)
    assert calls == [4, 4, 2]


def fitted(kind: Any, weights: str, run_dir: str, *callbacks: Callback, checkpoint: "Path | None" = None) -> Any:
    module = plane_of(broken.Network(), kind, weights=weights, **SETTINGS)
    data = rollouts_of(broken.Right(), **{**QUICK, "validation_draws": 24})
    return graft.fit(
        module, data, run_dir, trained(2, callbacks=[*callbacks], gradient_clip_val=None), checkpoint=checkpoint
    )


class StopInSixthStep(Callback):
    """The cluster asks the run to stop in its sixth step."""

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 6:
            signal.raise_signal(signal.SIGTERM)


def test_domain_that_overrides_all_hooks(weights: str, folder: Path) -> None:
    """The average moves, samples are evaluated, a signal is obeyed and the run resumes, as in any other domain."""
    ours = {name for name in vars(broken.Deaf) if name.startswith("on_")}
    assert len(ours) > 30 and all(hasattr(LightningModule, name) for name in ours)
    wanted = fitted(broken.Plane, weights, "plane")
    with pytest.raises(Interrupted):
        fitted(broken.Deaf, weights, "deaf", StopInSixthStep())
    checkpoint = folder / "deaf/checkpoints/last.ckpt"
    assert (
        read_checkpoint(checkpoint)["global_step"] == 6 and read_checkpoint(checkpoint)["graft"]["reference"]["sha256"]
    )
    found = fitted(broken.Deaf, weights, "deaf", checkpoint=checkpoint)
    assert {**found, "seconds": 0} == {**wanted, "seconds": 0}
    plane, deaf = (load_file(f"{name}/tuned.safetensors") for name in ("plane", "deaf"))
    assert all(torch.equal(plane[name], deaf[name]) for name in plane)
    last = read_checkpoint(checkpoint)["state_dict"]  # the average is another thing than the last weights
    assert not torch.equal(last["policy.backbone.layers.0.weight"], last["policy.ema.layers/0/weight"])


def test_callbacks_of_a_domain_are_kept() -> None:
    """Graft's are added to those that a domain, a class between or a mixin gives, once."""

    class Mine(Callback):
        pass

    class Mixin:
        def configure_callbacks(self) -> Any:
            return Mine()

    class Mixed(Mixin, broken.Plane):  # type: ignore[misc]
        pass

    class Below(Mixed):
        pass

    for kind in (broken.Plane, broken.Deaf, Mixed, Below):
        module = plane_of(broken.Network(), kind)
        module._trainer = SimpleNamespace(callbacks=[])
        names = [type(each).__name__ for each in module.configure_callbacks()]
        assert names == [*(["Mine"] if issubclass(kind, Mixin) else []), "FiniteSteps", "Hooks"]
        module._trainer.callbacks = module.configure_callbacks()
        assert [type(each).__name__ for each in module.configure_callbacks()] == names[:-2]
