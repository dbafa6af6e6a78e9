"""GraftModule: the LightningModule that learns the law of a state at one level and lets the reference finish."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from graft import files, seeding
from graft.ema import EMA, trained
from graft.errors import GraftError
from graft.judge import Judge
from graft.process import Process
from graft.reference import LoRA, adapt, evaluating, frozen, without_adapter
from graft.sampler import Stage, Trajectory, run, snap
from graft.state import Condition, State, size

if TYPE_CHECKING:
    from graft.sources import Scored

Weights = Literal["reference", "tuned"]
Target = Literal["transition", "trajectory", "renoised"]


@dataclass
class Examples:
    """A training batch: samples of the law to be learned.

    Attributes:
        state: (B, ...) at ``level``.
        condition: What they were drawn under.
        weight: (B,) how much each counts.
        level: Of the states; 0 for data.
        target: The final samples of the same trajectories, for target (b).
    """

    state: State
    condition: Condition
    weight: "Tensor | None" = None
    level: float = 0.0
    target: "State | None" = None


@dataclass
class Draws:
    """A request for samples, one for each row of ``condition``.

    Attributes:
        condition: What is given.
        purpose: Seeds the generator, with the module's seed: what the draw is for.
        weights: ``reference``, or ``tuned``: tuned above the level, the reference below.
        record: Levels to keep besides the last state.
        estimate: Ask the network for E[x_0 | x_u] at the levels to record, too.
        start: The level to start from, below 1 with ``state``.
        state: (B, ...) at ``start``; drawn from the prior if not given.
    """

    condition: Condition
    purpose: tuple["int | str", ...]
    weights: Weights = "tuned"
    record: tuple[float, ...] = field(default=())
    estimate: bool = False
    start: float = 1.0
    state: "State | None" = None


class GraftModule(LightningModule, ABC):
    """A pre-trained model, its process and its reference, and the law at ``level`` that is to be learned.

    A domain subclasses it: `draw_conditions` and `decode` at least; `key`, `known`, `features`, `metrics`, `draw`,
    `write`, `group` and `encode` for all that graft can do.

    Args:
        backbone: The network, ``(state, time (B,), condition) -> output`` of the state's shape.
        process: How states are noised, and the sampler's step.
        weights: The reference's weights, by path or by name in an installed package: a file that ``graft pretrain`` (or
            `save_weights`) wrote, or a state dict of the network as a safetensors or torch file; ``null`` to train from
            scratch.
        level: u* in [0, 1), a fraction of the sampler's steps: 0 is GRAFT, the whole network is tuned; above it
            P-GRAFT, the tuned network samples from 1 to u* and the frozen reference from u* to 0. ``auto``: the largest
            candidate of ``data.levels`` at which at least 0.9 of the accepted gain survives the hand-over, measured on
            draws of the reference before the first round (as ``graft levels`` shows) and then fixed for the run.
        steps: Of the sampler, from 1 to 0; the level is moved to the nearest one.
        target: Of the loss at u* > 0. ``transition``: the recorded states' law, from the noise between them and the
            network's level; right whatever made them. ``trajectory``: the same law, from each trajectory's own final
            sample; right, and of less variance, if the sampler reverses the process in law and draws from the
            reference. ``renoised``: the law of the accepted final samples, noised to u*; the one to iterate with, for
            the same samplers. ``auto``: ``trajectory`` on the reference's draws and ``renoised`` on the current
            model's where they are right, else ``transition``.
        lora: Train adapters through peft; without it the whole network is trained and the reference is a frozen copy.
        ema: Decay of the average of the trained weights, which then are the ones that are sampled and saved; ``null``:
            none.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        warmup: Steps in which the learning rate rises linearly.
        cosine: Let the learning rate fall to 0 as a half cosine over the whole training.
        clip: Largest norm of the gradient; ``null``: none.
        seed: Of every draw; the command line links it to ``--seed_everything``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        process: Process,
        weights: "str | None" = None,
        level: 'float | Literal["auto"]' = 0.0,
        steps: int = 24,
        target: Literal["auto", "transition", "trajectory", "renoised"] = "auto",
        lora: "LoRA | None" = None,
        ema: "float | None" = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        warmup: int = 0,
        cosine: bool = False,
        clip: "float | None" = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(level, str) and level != "auto":
            raise GraftError(f"model.level is {level!r}, but a level is a number in [0, 1), or 'auto'")
        if steps < 1:
            raise GraftError(f"model.steps is {steps}, but a sampler takes at least 1")
        self.process, self.steps, self.asked_level = process, steps, level
        self._level: float | None = None
        if level != "auto":
            self.level = level
        self.asked_target: Literal["auto", "transition", "trajectory", "renoised"] = target
        self.seed = seed
        self.learning_rate, self.weight_decay, self.clip = learning_rate, weight_decay, clip
        self.warmup, self.cosine = warmup, cosine
        self.facts: dict[str, Tensor] = {}
        self.reference_file: dict[str, str] | None = None
        if weights is not None:
            self._load_reference(backbone, weights)
        elif lora is not None:
            raise GraftError("model.lora adapts a reference: give model.weights")
        self.reference = frozen(backbone) if weights is not None and lora is None else None
        self.backbone = adapt(backbone, lora) if lora is not None else backbone
        self.average = EMA(self.backbone, ema) if ema is not None else None
        self.judges: dict[str, Judge] = {}
        self.register_state_dict_post_hook(_drop_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_frozen)  # type: ignore[no-untyped-call]

    # What only the domain knows

    @abstractmethod
    def draw_conditions(self, count: int, generator: Generator) -> Condition:
        """What is given to ``count`` draws: a dict of at least one tensor with ``count`` rows."""

    @abstractmethod
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """The objects that final states stand for, one for each row, whatever their quality."""

    def group(self, condition: Condition) -> Tensor:
        """(B,) integer of the condition of each draw, within which acceptance ranks; like conditions are neighbours."""
        return torch.zeros(size(condition), dtype=torch.long)

    def key(self, item: Any) -> str:
        """Canonical key of an object: equal keys are duplicates, an empty one equals no other."""
        raise GraftError(f"{type(self).__name__} has no key for its objects: de-duplication needs one")

    def known(self, keys: Sequence[str]) -> Tensor:
        """(n,) bool: which keys are those of objects that the reference was trained on."""
        raise GraftError(f"{type(self).__name__} does not know its training data: novelty needs that")

    def features(self, items: Sequence[Any]) -> Tensor:
        """(n, d) what makes objects alike: for similarity, diversity and distances; zeros where an object has none."""
        raise GraftError(f"{type(self).__name__} has no features for its objects: similarity and distances need them")

    def metrics(self) -> Mapping[str, Metric]:
        """Fresh metrics by name in snake_case, shares as fractions.

        Each takes a list of objects and gives a number, or a dict of numbers by name.
        """
        return {}

    def draw(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> "bytes | None":
        """A PNG of objects in a grid, or None if the domain draws nothing."""
        return None

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write objects, with their rewards if there are any, to a file whose kind its suffix says."""
        raise GraftError(f"{type(self).__name__} has no file format")

    def read(self, path: Path, score: str) -> "Scored":
        """Objects of a file with the scores that its column or property ``score`` holds, as states at level 0.

        A record that cannot be used is left out and listed with the reason.

        Raises:
            GraftError: The file is of another kind, or nothing in it is called ``score``.
        """
        raise GraftError(f"{type(self).__name__} reads no files of scored objects")

    suffix: str = ""  # of the domain's main file format, with the dot

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """(state at level 0, condition) of a batch of the domain's data set, for training on data."""
        raise GraftError(f"{type(self).__name__} cannot train on data: it has no encode")

    # Reference and tuned

    @property
    def level(self) -> float:
        """u*, one of the sampler's steps.

        Raises:
            GraftError: It is ``auto`` and has not been chosen yet.
        """
        if self._level is None:
            raise GraftError(
                "model.level is 'auto' and no level has been chosen yet: graft fit chooses it before its first round; "
                "give the weights of such a run with --weights, or a number"
            )
        return self._level

    @level.setter
    def level(self, level: float) -> None:
        if not 0 <= level < 1:
            raise GraftError(f"model.level is {level:g}, but a level is a fraction of the steps in [0, 1)")
        snapped = snap(level, self.steps)
        if snapped == 1:
            raise GraftError(f"model.level {level:g} is level 1 with {self.steps} steps: nothing would be tuned")
        self._level = snapped

    def stages(self, weights: Weights) -> list[Stage]:
        """The sampler as stages: the reference alone, or tuned above the level and the reference below it."""
        if weights == "reference":
            return [Stage(self.process, self.reference_model)]
        if self.level == 0:
            return [Stage(self.process, self.backbone)]
        return [
            Stage(self.process, self.backbone, 1.0, self.level),
            Stage(self.process, self.reference_model, self.level, 0.0),
        ]

    def reference_model(self, state: State, time: Tensor, condition: Condition) -> State:
        """The reference's output."""
        if self.reference is not None:
            output: State = self.reference(state, time, condition)
            return output
        if self.reference_file is None:
            raise GraftError("there is no reference: give model.weights")
        with without_adapter(self.backbone):
            output = self.backbone(state, time, condition)
        return output

    def target(self, source: Literal["reference", "current"]) -> Target:
        """What the loss aims at, for draws of ``source``.

        Raises:
            GraftError: What was asked for is biased there.
        """
        right = self.process.consistent
        if self.asked_target == "auto":
            return "transition" if not right else "trajectory" if source == "reference" else "renoised"
        if self.asked_target != "transition" and not right:
            raise GraftError(
                f"model.target '{self.asked_target}' is biased unless the sampler reverses the process in law (eta=1): "
                "use 'transition'"
            )
        if self.asked_target == "trajectory" and source == "current":
            raise GraftError(
                "model.target 'trajectory' is biased on draws of the current model (data.source=current): use "
                "'renoised', 'transition' or 'auto'"
            )
        return self.asked_target

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Within the block the network is in evaluation mode and has the averaged weights, if there are any."""
        with evaluating(self.backbone), torch.no_grad():
            if self.average is None:
                yield
            else:
                with self.average.swapped(self.backbone):
                    yield

    # Lightning's steps

    def predict_step(self, batch: Draws, batch_idx: int = 0) -> Trajectory:
        """Sample: the rollout."""
        generator = seeding.generator(self.seed, *batch.purpose)
        stages = [
            Stage(stage.process, stage.model, min(stage.start, batch.start), stage.stop)
            for stage in self.stages(batch.weights)
            if stage.stop < batch.start
        ]
        with self.sampling():
            drawn = run(stages, batch.condition, self.steps, batch.record, generator, batch.state)
            for level, state in drawn.recorded.items() if batch.estimate else ():
                stage = next(stage for stage in stages if stage.stop < level)  # the one that goes on from there
                output = stage.process(stage.model, state, level, batch.condition)
                drawn.estimates[level] = stage.process.estimate(output, state, level, batch.condition)
                drawn.calls += 1
        return drawn

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Denoising loss of the law of the given states, at levels spread evenly over (level, 1]."""
        examples = batch if isinstance(batch, Examples) else Examples(*self.encode(batch))
        generator = seeding.generator(self.seed, "train", self.global_step, self.global_rank)
        loss = self.loss(examples, generator)
        self.log("train/loss", loss, prog_bar=True, batch_size=size(examples.state))
        return loss

    def loss(self, examples: Examples, generator: "Generator | None" = None) -> Tensor:
        """The mean weighted loss of a batch, with stratified levels."""
        count = size(examples.state)
        spread = (torch.randperm(count, generator=generator) + seeding.uniform(count, generator)) / count
        lowest = max(self.level, examples.level)  # below the reference finishes
        level = 1 - (1 - lowest) * spread  # (lowest, 1]: the kernel from a level to itself has no noise
        loss = self.process.loss(
            self.backbone, examples.state, level, examples.level, examples.condition, examples.target, generator
        )
        return (loss if examples.weight is None else loss * examples.weight.to(loss)).mean()

    def on_validation_epoch_start(self) -> None:
        """Start judging the tuned model."""
        self.judges = {"tuned": self._judge()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge draws of the tuned model; for a batch of data, its loss."""
        if isinstance(batch, Draws):
            self._judged(batch, batch_idx)
            return
        examples = Examples(*self.encode(batch))
        with self.sampling():
            loss = self.loss(examples, seeding.generator(self.seed, "validation", batch_idx))
        self.log("validation/loss", loss, prog_bar=True, batch_size=size(examples.state))

    def on_validation_epoch_end(self) -> None:
        """Log what the tuned model's draws are like."""
        if self.judges["tuned"].items:
            summary = self.judges["tuned"].summary()
            self.log_dict({f"validation/{name}": value for name, value in summary.items() if name != "n"})

    def on_test_epoch_start(self) -> None:
        """Start judging the reference and the tuned model."""
        self.judges = {"reference": self._judge(), "tuned": self._judge()}

    def test_step(self, batch: Draws, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Judge draws of the reference or of the tuned model."""
        self._judged(batch, batch_idx)

    def on_test_epoch_end(self) -> None:
        """Log what both are like; `judges` keeps the objects."""
        for weights, judge in self.judges.items():
            if judge.items:
                self.log_dict({f"test/{weights}/{name}": value for name, value in judge.summary().items()})

    def _judge(self) -> Judge:
        data = getattr(self.trainer, "datamodule", None)
        return Judge(getattr(data, "reward", None), self.metrics())

    def _judged(self, batch: Draws, batch_idx: int) -> None:
        drawn = self.predict_step(batch, batch_idx)
        items = self.decode(drawn.state, batch.condition)
        self.judges[batch.weights].update(items, drawn.calls * len(items))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the average."""
        if self.average is not None:
            self.average.update(self.backbone)

    def configure_optimizers(self) -> Any:
        """AdamW on what is trained, warm-up and cosine by the step."""
        parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)
        if not self.cosine and not self.warmup:
            return optimizer
        # asking Lightning for the number of steps would make it load the data, and a round's data is the round
        a_round = getattr(getattr(self.trainer, "datamodule", None), "steps_per_epoch", None)
        total = self.trainer.estimated_stepping_batches if a_round is None else a_round * (self.trainer.max_epochs or 1)

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / (self.warmup + 1))
            fall = 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * min(1.0, step / total)))) if self.cosine else 1.0
            return rise * fall

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip to ``clip``."""
        self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")

    # Files

    def save_weights(self, path: "str | Path", about: "dict[str, Any] | None" = None) -> None:
        """Write what was trained (averaged, if there is an average), the domain's facts and how to load them."""
        with self.sampling():
            parameters = trained(self.backbone) if self.reference_file else dict(self.backbone.named_parameters())
            tensors = {f"backbone/{name}": p.detach().clone() for name, p in parameters.items()}
        tensors |= {f"backbone/{name}": b for name, b in _buffers(self.backbone).items()}
        tensors |= {f"facts/{name}": fact for name, fact in self.facts.items()}
        note = {"format": 1, "reference": self.reference_file, "level": self.level}
        files.write_tensors(path, tensors, {**note, **(about or {})})

    def load_weights(self, path: "str | Path") -> None:
        """Load what `save_weights` wrote into the trained network; a level that is not chosen yet becomes theirs.

        Raises:
            GraftError: They are another network's, or were tuned from another reference.
        """
        tensors, about = files.read_tensors(path)
        theirs, ours = about.get("reference"), self.reference_file
        if theirs and ours and theirs["sha256"] != ours["sha256"]:
            raise GraftError(
                f"{path} was tuned from another reference ({theirs['path']}, sha256 {theirs['sha256'][:12]}…) than "
                f"model.weights ({ours['path']}, sha256 {ours['sha256'][:12]}…): use the same one"
            )
        backbone = {n.removeprefix("backbone/"): t for n, t in tensors.items() if n.startswith("backbone/")}
        expected = trained(self.backbone) if theirs else dict(self.backbone.named_parameters())
        _load(self.backbone, backbone, path, expected)
        self.facts |= {n.removeprefix("facts/"): t for n, t in tensors.items() if n.startswith("facts/")}
        if self.average is not None:
            self.average = EMA(self.backbone, self.average.decay)
        if self._level is None and about.get("level") is not None:
            self.level = about["level"]

    def _load_reference(self, backbone: nn.Module, weights: str) -> None:
        path = files.locate(weights)
        tensors, about = files.read_network(path)
        if about.get("reference"):
            raise GraftError(f"{weights} holds tuned weights, not a reference: give the file it was tuned from")
        network = {n.removeprefix("backbone/"): t for n, t in tensors.items() if n.startswith("backbone/")}
        _load(backbone, network, weights, dict(backbone.named_parameters()))
        self.facts = {n.removeprefix("facts/"): t for n, t in tensors.items() if n.startswith("facts/")}
        shipped = any(path.is_relative_to(root) for root in files.shipped())
        name = weights if shipped else str(path.resolve())  # found from any folder
        self.reference_file = {"path": name, "sha256": files.sha256(path)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the reference by path and hash; its weights stay out."""
        checkpoint["graft"] = {"format": 1, "reference": self.reference_file}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not ours or has another reference."""
        note = checkpoint.get("graft")
        if not isinstance(note, dict):
            raise GraftError("this checkpoint was not written by graft: warm starts from weights use --weights")
        theirs, ours = note["reference"] or {}, self.reference_file or {}
        if theirs.get("sha256") != ours.get("sha256"):
            raise GraftError(
                f"the checkpoint was tuned from the reference {theirs.get('path')}, which is not {ours.get('path')}"
            )


def _load(network: nn.Module, tensors: dict[str, Tensor], path: Any, expected: Mapping[str, Tensor]) -> None:
    buffers = _buffers(network)
    wanted = {**{name: p.shape for name, p in expected.items()}, **{name: b.shape for name, b in buffers.items()}}
    given = {name: t.shape for name, t in tensors.items()}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise GraftError(
                f"{path} does not fit the network: {name} is {_shape(given.get(name))} there and "
                f"{_shape(wanted.get(name))} in {type(network).__name__}"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            (expected.get(name) if name in expected else buffers[name]).copy_(tensor)  # type: ignore[union-attr]


def _shape(shape: "torch.Size | None") -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    """The buffers that a state dict has."""
    parameters = dict(network.named_parameters())
    return {name: tensor for name, tensor in network.state_dict().items() if name not in parameters}


def _frozen(module: GraftModule) -> dict[str, Tensor]:
    """What checkpoints leave out: the reference, and what of the network is not trained."""
    if module.reference_file is None:
        return {}
    rest = {f"backbone.{name}": p for name, p in module.backbone.named_parameters() if not p.requires_grad}
    copy = module.reference.state_dict() if module.reference is not None else {}
    return rest | {f"reference.{name}": tensor for name, tensor in copy.items()}


def _drop_frozen(module: Any, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    for name in _frozen(module):
        state_dict.pop(prefix + name, None)


def _fill_frozen(module: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    for name, tensor in _frozen(module).items():
        state_dict[prefix + name] = tensor.detach()
