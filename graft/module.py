"""GraftModule: the LightningModule that fine-tunes a policy on rounds of samples. A domain subclasses it."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from typing_extensions import Self, override

from graft.core import seeding
from graft.core.datatypes import SampleRequest, TrainingBatch
from graft.core.distributed import shared_errors
from graft.core.finite import NotFiniteError, require_finite_network
from graft.core.recorded_arguments import Described
from graft.core.state import size
from graft.domain import Domain
from graft.evaluation import SampleEvaluator
from graft.network import LoRA
from graft.network.corrector import NoiseCorrector
from graft.network.weights import Reference, read_reference, take_reference
from graft.objectives import Objective, Shaping
from graft.optimizers import FusedAdamW, check_optimizer, configure_optimizers
from graft.policy import TUNING, Policy, Tuning
from graft.policy.weights import interpolate, read_weights, write_weights
from graft.pretrained.model import from_pretrained
from graft.process import Process
from graft.runs import finite_steps
from graft.runs.architecture import TRAINING_SETTINGS, header_of, reference_name
from graft.runs.callbacks import check_checkpoint, keep_double, missing, note_reference, with_graft_callbacks
from graft.runs.sharding import shard, shards
from graft.sampler import Trajectory
from graft.solvers import Solver


class GraftModule(Described, Domain, LightningModule):
    """A pre-trained model that is fine-tuned: its `graft.policy.Policy`, an objective, and Lightning's hooks.

    A domain subclasses it and implements the hooks of `graft.domain.Domain`.

    Args:
        backbone: The network, ``(state, time (B,), condition) -> output`` of the state's shape.
        process: The forward process and the sampler's step.
        weights: The reference's weights, by path or by name in an installed package: a file that ``graft pretrain`` (or
            `save_weights`) wrote, or a state dict of the network as a safetensors or torch file (a ``.ckpt`` of
            Lightning's too). ``null`` trains from scratch. From Python also a network in memory, or its state dict.
        level: u* in [0, 1), a fraction of the sampler's steps, moved to the nearest step. 0 is GRAFT: the whole network
            is tuned. A level above 0 is P-GRAFT: the tuned network samples from 1 to u* and the frozen reference from
            u* to 0. ``auto`` chooses the largest candidate of ``data.level_search`` at which 0.8 of the accepted gain
            survives the hand-over, by the lower end of its 95 % interval, before the first round.
        upper_level: The level at which the tuned network takes over from the reference, moved to the nearest step.
            Below 1 the reference decides what high noise decides, for example which kinds of samples there are.
        steps: Number of sampler steps from level 1 to 0.
        objective: What a round makes the network learn; `graft.objectives.Shaping` if not given.
        corrector: A small flow from Gaussian noise to the noise of accepted samples, the only network that is trained.
            It needs a deterministic sampler. The reference then samples the whole clock, so ``level`` is left out.
        solver: Solver of the sampler's steps, for example `graft.solvers.Heun`; the process's own if ``null``.
        lora: Train adapters through peft. Without it the whole network is trained and the reference is a frozen copy.
        tuning: How the network is trained: moving average, levels, compilation.
        optimizer: Makes the optimizer of the trained parameters; `graft.optimizers.FusedAdamW` if not given.
        lr_scheduler: Makes the learning-rate schedule, stepped after each optimizer step; ``null``: none.
        seed: Seed of all random numbers; the command line links it to ``--seed_everything``.
        weights_prefix: Prefix of the network's names in a file that holds other tensors too, for example ``model.``;
            ``null``: a prefix that all names share is found.
    """

    only_training: tuple[str, ...] = TRAINING_SETTINGS
    """Settings that sampling does not need; weights files hold the others, as the model's architecture."""

    def __init__(
        self,
        backbone: nn.Module,
        process: Process,
        weights: "Reference | None" = None,
        level: 'float | Literal["auto"]' = 0.0,
        steps: int = 24,
        upper_level: float = 1.0,
        objective: "Objective | None" = None,
        corrector: "NoiseCorrector | None" = None,
        solver: "Solver | None" = None,
        lora: "LoRA | None" = None,
        tuning: Tuning = TUNING,
        optimizer: OptimizerCallable = FusedAdamW,
        lr_scheduler: "LRSchedulerCallable | None" = None,
        seed: int = 0,
        weights_prefix: "str | None" = None,
    ) -> None:
        super().__init__()
        check_optimizer(optimizer, lr_scheduler)
        self.level_setting, self.seed, self.weights_prefix = level, seed, weights_prefix
        self.optimizer, self.lr_scheduler = optimizer, lr_scheduler
        self.dataset_statistics = {}
        reference_file = in_memory = None
        if isinstance(weights, str | Path):
            self.dataset_statistics, reference_file = self.load_reference(backbone, str(weights))
        elif weights is not None:
            in_memory, reference_file = take_reference(backbone, weights, weights_prefix)
        if reference_file is not None:
            require_finite_network(backbone, reference_file.get("path"), "give other model.weights")
        networks = (solver, corrector, lora, tuning, reference_file, in_memory)
        self.policy = Policy(backbone, process, steps, level, upper_level, *networks, domain=self)
        self.objective = objective if objective is not None else Shaping()
        self.objective.setup(self.policy)
        self.evaluators: dict[str, SampleEvaluator] = {}
        self.register_load_state_dict_pre_hook(keep_double)  # type: ignore[no-untyped-call]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Keep graft's callbacks next to those of a domain."""
        super().__init_subclass__(**kwargs)
        configure = cls.configure_callbacks
        if configure is not GraftModule.configure_callbacks and not hasattr(configure, "keeps_graft"):
            cls.configure_callbacks = with_graft_callbacks(configure)  # type: ignore[method-assign]

    @classmethod
    def from_pretrained(cls, path: "str | Path", *, trust: bool = False, **overrides: Any) -> Self:
        """Return the model that a weights file describes, with the weights as its reference, or onto theirs.

        The header of the file is checked as ``graft sample`` checks it.

        Args:
            path: Weights file that graft wrote, or the folder of a run.
            trust: Read ``config.yaml`` in the folder of the run in place of the header: it may name any class and file.
            **overrides: Arguments of the constructor that replace those of the file, such as ``level``.

        Raises:
            GraftError: The file describes no model, describes one of another class, or names what no model needs.
        """
        return from_pretrained(cls, path, trust, overrides)  # type: ignore[no-any-return]

    @override
    def predict_step(self, batch: SampleRequest, batch_idx: int = 0) -> Trajectory:
        # ranks that share a network have to call it equally often
        shared = self._trainer is not None and shards(self._trainer.strategy)
        self.policy.auto_batch_size.frozen = shared
        with shared_errors(self.trainer, NotFiniteError) if shared else nullcontext():
            return self.policy.sample(batch, seeding.make_generator(self.seed, *batch.seed_key))

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        trainer: Any = self.trainer
        parts, place = trainer.accumulate_grad_batches, (self.global_rank, trainer.world_size)
        generator = seeding.seed_step(self.seed, self.global_step, *place, batch_idx % parts, parts, self.device)
        logged: dict[str, Tensor] = {}
        if isinstance(batch, TrainingBatch):
            loss, logged = self.objective.loss(self.policy, batch, generator)
        else:
            batch = TrainingBatch(*self.encode(batch))
            loss = self.policy.loss(batch, generator)
        every: int = trainer.log_every_n_steps
        last = batch_idx + 1 == trainer.num_training_batches  # for callbacks that monitor the loss of a round
        if not last and (not every or (self.global_step + 1) % every):
            return loss  # logging every step costs about 1 ms
        self.log("train/loss", loss, prog_bar=True, batch_size=size(batch.condition))
        for name, value in logged.items():
            self.log(f"train/{name}", value, batch_size=size(batch.condition))
        return loss

    @override
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        if isinstance(batch, SampleRequest):
            self._evaluate(batch, batch_idx)
            return
        batch = batch if isinstance(batch, TrainingBatch) else TrainingBatch(*self.encode(batch))
        with self.policy.eval_weights():
            loss = self.policy.loss(batch, seeding.make_generator(self.seed, "validation", batch_idx))
        self.log("validation/loss", loss, prog_bar=True, batch_size=size(batch.state))

    @override
    def test_step(self, batch: SampleRequest, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, batch_idx)

    def _evaluate(self, batch: SampleRequest, batch_idx: int) -> None:
        with shared_errors(self.trainer):
            drawn = self.predict_step(batch, batch_idx)
        number: Any = batch.seed_key[-1]
        if number % self.trainer.world_size != self.global_rank:  # a repeated one, so that all ranks have as many
            return
        items = self.decode(drawn.state, batch.condition)
        self.evaluators[batch.weights].update(items, drawn.denoiser_calls * len(items), number)

    @override
    def configure_callbacks(self) -> "Sequence[Callback]":
        return missing(self.trainer.callbacks)  # type: ignore[attr-defined]

    @override
    def configure_model(self) -> None:
        if self.device_mesh is not None:  # the strategy shards
            shard(self.policy, self.objective, self.device_mesh["data_parallel"])

    @override
    def configure_optimizers(self) -> Any:
        parameters = [p for p in self.policy.backbone.parameters() if p.requires_grad]
        return configure_optimizers(self.trainer, parameters, self.optimizer, self.lr_scheduler)

    @override
    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: "str | None" = None
    ) -> None:
        if not finite_steps.clip(self.trainer, optimizer, gradient_clip_val, gradient_clip_algorithm):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def load_reference(self, backbone: nn.Module, weights: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Load the reference; return (statistics of its training data, ``path`` and ``sha256`` of the file).

        Raises:
            GraftError: The file holds the weights of another network, or tuned weights.
        """
        return read_reference(backbone, weights, self.weights_prefix)

    def save_weights(self, path: "str | Path", config: str = "") -> None:
        """Write the trained weights, averaged if there is an average, and what is needed to load them.

        Args:
            path: The file.
            config: The run's configuration as YAML. The file holds its settings of the model, without `only_training`.
        """
        note = {"reference": reference_name(self.policy.reference_file, path), "level": self.policy.handover_level}
        write_weights(self.policy, path, self.dataset_statistics, note | header_of(self, config))

    def load_weights(self, path: "str | Path") -> None:
        """Load weights that `save_weights` wrote. A level ``auto`` becomes theirs.

        Raises:
            GraftError: The weights belong to another network, or were tuned from another reference.
        """
        statistics, about = read_weights(self.policy, path)
        self.dataset_statistics |= statistics
        if self.level_setting == "auto" and about.get("level") is not None:
            self.policy.set_level(about["level"])
        self.objective.setup(self.policy)

    def interpolate(self, share: float) -> None:
        """Replace the trained weights by ``share`` · tuned + (1 − share) · reference.

        Raises:
            GraftError: There is no reference, or a corrector, whose weights have no counterpart in it.
        """
        interpolate(self.policy, share)
        self.objective.setup(self.policy)

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        note_reference(self, checkpoint)  # Lightning skips callbacks for a checkpoint of the weights alone

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_checkpoint(self, checkpoint)
