"""GraftModule: the LightningModule that learns the law of a state at one level and lets the reference finish."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from graft import distance, hooks, limits, seeding
from graft.batches import SampleRequest, TrainingBatch, Weights
from graft.callbacks import check_checkpoint, keep_double, missing, note_reference, with_graft_callbacks
from graft.corrector import NoiseCorrector
from graft.distributed import shared_errors
from graft.errors import GraftError
from graft.evaluation import SampleEvaluator
from graft.finite import NotFiniteError, require_finite_network
from graft.network import EMA, AutoBatchSize, LoRA, adapter_disabled, add_lora, eval_mode, frozen_copy
from graft.network.weights import (
    Reference,
    drop_frozen,
    fill_frozen,
    interpolate,
    read_reference,
    read_weights,
    take_reference,
    write_weights,
)
from graft.objectives import Objective, Shaping
from graft.process import Model, Process, checked
from graft.recorded_arguments import Described
from graft.runs import finite_steps
from graft.sampler import Stage, Trajectory, explained, nearest_level, run_stages
from graft.sharding import shard, shards
from graft.solvers import Euler, Solver
from graft.state import Condition, State, size

if TYPE_CHECKING:
    from graft.rounds.sources import ScoredSet


class GraftModule(Described, LightningModule, ABC):
    """A pre-trained model, its process and its reference, and the law at ``level`` that is to be learned.

    A domain subclasses it: `sample_conditions` and `decode` at least; `key`, `known`, `features`, `metrics`, `draw`,
    `write`, `group` and `encode` for all that graft can do.

    Args:
        backbone: The network, ``(state, time (B,), condition) -> output`` of the state's shape.
        process: How states are noised, and the sampler's step.
        weights: The reference's weights, by path or by name in an installed package: a file that ``graft pretrain`` (or
            `save_weights`) wrote, or a state dict of the network as a safetensors or torch file (a ``.ckpt`` of
            Lightning's too); ``null`` to train from scratch. From Python also a network in memory, or its state dict.
        level: u* in [0, 1), a fraction of the sampler's steps: 0 is GRAFT, the whole network is tuned; above it
            P-GRAFT, the tuned network samples from 1 to u* and the frozen reference from u* to 0. ``auto``: the largest
            candidate of ``data.level_search`` at which at least 0.9 of the accepted gain survives the hand-over,
            measured on draws of the reference before the first round (as ``graft levels`` shows) and then fixed for the
            run. It avoids levels that lose the reward; it was not found to beat a constant 0.125 (tests/benchmarks).
            1, the noise itself, with a ``corrector`` only.
        upper_level: The level at which the tuned network takes over from the reference, which samples above it: what
            high noise decides (which kinds of samples there are) then keeps its law, and what follows is shaped given
            that.
            1: at once. It is moved to the nearest step, like the level.
        steps: Of the sampler, from 1 to 0; the level is moved to the nearest one.
        objective: What a round's draws and rewards make the network learn; `Shaping` if not given: the law of the
            accepted states at the level.
        corrector: At level 1: a small flow of its own, the one thing that is trained, from Gaussian noise to the law of
            the noise that the frozen reference makes accepted samples of. For deterministic samplers, where the noise
            decides the sample.
        solver: Of the sampler's steps: `graft.solvers.Heun` or ``Midpoint`` for samplers that draw no noise, at two
            network calls a step; the process's own (Euler's, DDIM's) if ``null``.
        lora: Train adapters through peft; without it the whole network is trained and the reference is a frozen copy.
        ema_decay: Decay of the average of the trained weights, which then are the ones that are sampled and saved;
            ``null``: none.
        learning_rate: Of AdamW.
        weight_decay: Of AdamW.
        lr_warmup_steps: Steps in which the learning rate rises linearly.
        cosine: Let the learning rate fall to 0 as a half cosine over the whole training.
        clip: Largest norm of the gradient; ``null``: none.
        timestep_sampler: Mean and spread of the logit of the levels that training asks the network at, as shares of the
            way from `level` to `upper_level` (Esser et al. 2024, section 3.1); ``null``: evenly, as the sampler's steps
            lie.
        compile: Have torch.compile make the networks faster, after a minute or so at the start; a string is another
            backend of it than inductor. Names in files do not change.
        seed: Of every draw; the command line links it to ``--seed_everything``.
        weights_prefix: What the names of the network's tensors begin with in a file that holds others too, such as
            ``model.``; ``null``: a prefix that all names share is found.
    """

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
        ema_decay: "float | None" = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        lr_warmup_steps: int = 0,
        cosine: bool = False,
        clip: "float | None" = 1.0,
        timestep_sampler: "tuple[float, float] | None" = None,
        compile: "bool | str" = False,
        seed: int = 0,
        weights_prefix: "str | None" = None,
    ) -> None:
        super().__init__()
        if isinstance(level, str) and level != "auto":
            raise GraftError(f"model.level is {level!r}, but a level is a number in [0, 1), or 'auto'")
        limits.check("model.steps", steps, 1, limits.MOST_STEPS)
        limits.check("model.learning_rate", learning_rate, 0)
        limits.check("model.weight_decay", weight_decay, 0)
        limits.check("model.lr_warmup_steps", lr_warmup_steps, 0, limits.MOST_WARMUP)
        if clip is not None:
            limits.check("model.clip", clip, 0, above=True)
        if ema_decay is not None:
            limits.check("model.ema_decay", ema_decay, 0, 1, below=True)
        self.process, self.steps, self.level_setting = process, steps, level
        self.solver = solver if solver is not None else Euler()
        self.solver.check(process)
        self.corrector = corrector
        if corrector is not None:
            if weights is None or lora is not None:
                raise GraftError("model.corrector corrects a frozen reference: give model.weights, and no model.lora")
            if level == "auto":
                raise GraftError("model.level is 'auto', but a corrector shapes the noise: use --model.level 1")
            corrector.check_compatible(process)
        self.upper_level = nearest_level(upper_level, steps)
        if not 0 < upper_level <= 1 or (corrector is not None and upper_level < 1):
            raise GraftError(
                f"model.upper_level is {upper_level:g}, but the tuned network takes over at a level in (0, 1], "
                "and a corrector at 1"
            )
        self._level: float | None = None
        if level != "auto":
            self.level = level
        self.seed = seed
        if timestep_sampler is not None:
            limits.check(
                "the mean of model.timestep_sampler", timestep_sampler[0], -limits.MOST_LOGIT, limits.MOST_LOGIT
            )
            limits.check("the spread of model.timestep_sampler", timestep_sampler[1], 0, limits.MOST_LOGIT, above=True)
        self.timestep_sampler = timestep_sampler
        self.learning_rate, self.weight_decay, self.clip = learning_rate, weight_decay, clip
        self.lr_warmup_steps, self.cosine = lr_warmup_steps, cosine
        self.dataset_statistics: dict[str, Tensor] = {}
        self.reference_file: dict[str, str] | None = None
        self.weights_prefix = weights_prefix
        self.in_memory: dict[str, Tensor] | None = None
        if isinstance(weights, str | Path):
            self.dataset_statistics, self.reference_file = self.load_reference(backbone, str(weights))
        elif weights is not None:
            self.in_memory, self.reference_file = take_reference(backbone, weights, weights_prefix)
        elif lora is not None:
            raise GraftError("model.lora adapts a reference: give model.weights")
        if weights is not None:
            require_finite_network(backbone, (self.reference_file or {}).get("path"), "give other model.weights")
        self.reference: nn.Module | None = None
        self.backbone = backbone  # what is trained
        if corrector is not None:
            self.reference, self.backbone = backbone.requires_grad_(False).eval(), corrector.backbone
        elif lora is not None:
            self.backbone = add_lora(backbone, lora)
        elif weights is not None:
            self.reference = frozen_copy(backbone)
        self.average = EMA(self.backbone, ema_decay) if ema_decay is not None else None
        self.objective = objective if objective is not None else Shaping()
        self.objective.setup(self)
        self.evaluators: dict[str, SampleEvaluator] = {}
        self.fitted = AutoBatchSize()
        if compile:
            for network in (self.backbone, self.reference):
                if network is not None:
                    network.compile(backend="inductor" if compile is True else compile)
        self.register_state_dict_post_hook(drop_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(keep_double)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(fill_frozen)  # type: ignore[no-untyped-call]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Guard the hooks that a domain defines; see `graft.hooks`."""
        super().__init_subclass__(**kwargs)
        hooks.guard(cls, GraftModule)
        configure = cls.configure_callbacks  # graft's are kept beside those of a domain
        if configure is not GraftModule.configure_callbacks and not hasattr(configure, "keeps_graft"):
            cls.configure_callbacks = with_graft_callbacks(configure)  # type: ignore[method-assign]

    # What only the domain knows

    @abstractmethod
    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """What is given to ``count`` draws: a dict of at least one tensor with ``count`` rows."""

    @abstractmethod
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """The objects that final states stand for, one for each row, whatever their quality."""

    @property
    def cache_key_extras(self) -> Any:
        """What draws follow besides the weights and their facts, for `graft.fingerprint.fingerprint`; None: nothing."""
        return None

    has_fixed_part: bool = False
    """A part of every sample is given, which `apply_constraint` puts in its place."""
    num_resamples: int = 1
    """How often each step of the sampler is taken: what is given and what is generated then fit better."""

    def apply_constraint(self, output: State, condition: Condition) -> State:
        """The network's output in sampling, with what is given of the sample in the place of what it thinks of that."""
        return output

    def load_condition(self, path: Path) -> None:
        """Have `sample_conditions` give every draw what a file of the user says (``graft sample --condition FILE``).

        Raises:
            GraftError: The file is none, or the domain takes none.
        """
        raise GraftError(f"{type(self).__name__} takes nothing that is given in a file")

    def conditions_for(
        self, purpose: "tuple[int | str, ...]", start: int, count: int, generator: Generator
    ) -> Condition:
        """What is given to the draws ``start`` to ``start + count`` of those for ``purpose``; ``count`` fresh ones.

        A domain whose conditions are a list (prompts) says here which of them is whose turn.
        """
        return self.sample_conditions(count, generator)

    def group(self, condition: Condition) -> Tensor:
        """(B,) integer of the condition of each draw, within which acceptance ranks; like conditions are neighbours."""
        return torch.zeros(size(condition), dtype=torch.long)

    def key(self, item: Any) -> str:
        """Canonical key of an object: equal keys are duplicates, an empty one equals no other."""
        raise GraftError(f"{type(self).__name__} has no key for its objects: de-duplication needs one")

    @property
    def has_keys(self) -> bool:
        """Whether the domain's objects have keys."""
        return type(self).key is not GraftModule.key

    def in_training_set(self, keys: Sequence[str]) -> Tensor:
        """(n,) bool: which keys are those of objects that the reference was trained on."""
        raise GraftError(f"{type(self).__name__} does not know its training data: novelty needs that")

    def features(self, items: Sequence[Any]) -> Tensor:
        """(n, d) what makes objects alike: for similarity, diversity and distances; zeros where an object has none."""
        raise GraftError(f"{type(self).__name__} has no features for its objects: similarity and distances need them")

    def distances(self) -> Mapping[str, Callable[[Tensor, Tensor], float]]:
        """Distances of two sets of features, (n, d) and (m, d), by name in snake_case; the first one is judged by.

        The Fréchet distance, unless a domain says otherwise; where it has no features, the sliced Wasserstein distance
        of the states.
        """
        return (
            {"frechet": distance.frechet} if self.has_features else {"sliced_wasserstein": distance.sliced_wasserstein}
        )

    @property
    def has_features(self) -> bool:
        """Whether the domain's objects have features."""
        return type(self).features is not GraftModule.features

    @property
    def knowing(self) -> bool:
        """Whether the domain knows the keys of its training data."""
        return type(self).in_training_set is not GraftModule.in_training_set

    def metrics(self) -> Mapping[str, Metric]:
        """Fresh metrics by name in snake_case, shares as fractions.

        Each takes a list of objects and gives a number, or a dict of numbers by name. One with an attribute ``watched``
        that is False is shown and raises no alarm.
        """
        return {}

    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> "bytes | None":
        """A PNG of objects in a grid, or None if the domain draws nothing."""
        return None

    def render_html(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> str:
        """HTML to look at objects from all sides, which loads nothing; empty if the domain has nothing to turn."""
        return ""

    def postprocess(self, items: Sequence[Any]) -> list[Any]:
        """Objects with their small flaws mended, for who takes them further; what is judged is what was drawn."""
        raise GraftError(f"{type(self).__name__} has nothing to clean in its objects: leave out --postprocess")

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write objects, with their rewards if there are any, to a file whose kind its suffix says."""
        raise GraftError(f"{type(self).__name__} has no file format")

    def read_scored(self, path: Path, score: str) -> "ScoredSet":
        """Objects of a file with the scores that its column or property ``score`` holds, as states at level 0.

        A record that cannot be used is left out and listed with the reason.

        Raises:
            GraftError: The file is of another kind, or nothing in it is called ``score``.
        """
        raise GraftError(f"{type(self).__name__} reads no files of scored objects")

    only_training: tuple[str, ...] = (
        *(
            "weights",
            "weights_prefix",
            "objective",
            "ema_decay",
            "learning_rate",
            "weight_decay",
            "lr_warmup_steps",
            "cosine",
            "clip",
        ),
        *("timestep_sampler", "compile", "seed"),
    )
    """Settings that sampling does not need; weights files hold the others, as the model's architecture."""
    file_suffix: str = ""  # of the domain's main file format, with the dot
    file_suffixes: tuple[str, ...] = ()  # of all that `write` knows; empty if it is for `write` to say
    default_batch_size: int = 128  # draws at a time where no data module says

    def export(self, folder: Path) -> None:
        """Write the tuned model into the run's folder in the form that the field's other programs read.

        Of several processes all call this, for weights may be sharded (`graft.sharding.whole`); the first one writes.
        """

    def load_reference(self, backbone: nn.Module, weights: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Put the reference's weights into ``backbone``; (the domain's facts, ``path`` and ``sha256`` of the weights).

        Raises:
            GraftError: They are another network's, or no reference's.
        """
        return read_reference(backbone, weights, self.weights_prefix)

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """(state at level 0, condition) of a batch of the domain's data set, for training on data."""
        raise GraftError(f"{type(self).__name__} cannot train on data: it has no encode")

    def auxiliary_loss(self, examples: TrainingBatch, level: Tensor) -> "Tensor | None":
        """(B,) what the loss of each sample has besides, of what the network said in its last call; None: nothing."""
        return None

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
        if (self.corrector is not None) != (level == 1):
            raise GraftError(
                f"model.level is {level:g}, but level 1, the noise, goes with a model.corrector and a level in [0, 1) "
                "without one"
            )
        if self.corrector is not None:
            self._level = 1.0
            return
        if not 0 <= level < 1:
            raise GraftError(f"model.level is {level:g}, but a level is a fraction of the steps in [0, 1)")
        snapped = nearest_level(level, self.steps)
        if snapped == 1:
            raise GraftError(f"model.level {level:g} is level 1 with {self.steps} steps: nothing would be tuned")
        if snapped >= self.upper_level:
            raise GraftError(
                f"model.level {level:g} is not below model.upper_level {self.upper_level:g} with {self.steps} steps: "
                "nothing is tuned"
            )
        self._level = snapped

    @property
    def trained_stage(self) -> Stage:
        """The stage that is trained; it ends with the state whose law is learned."""
        if self.corrector is not None:
            own = self.corrector
            return Stage(own.process, self.backbone, steps=own.steps, solver=own.solver)
        return Stage(self.process, self.backbone, self.upper_level, self.level, solver=self.solver)

    def sampling_stages(self, weights: Weights) -> list[Stage]:
        """The sampler as stages: the reference alone, or tuned from the start to the level and it above and below."""
        whole = Stage(self.process, self.reference_forward, solver=self.solver)
        if weights == "reference":
            return [whole]
        shaped = self.trained_stage
        if self.corrector is not None:
            return [shaped, whole]
        parts = replace(whole, stop=shaped.start), shaped, replace(whole, start=shaped.stop)
        return [part for part in parts if part.start > part.stop]

    def denoiser_calls(self, weights: Weights) -> int:
        """Denoiser calls that a sample takes."""
        own = self.corrector if weights != "reference" else None
        again = (
            (self.num_resamples - 1) * self.solver.denoiser_calls(self.steps - 1)
            if self.num_resamples > 1 and self.steps > 1
            else 0
        )
        return (
            self.solver.denoiser_calls(self.steps)
            + again
            + (own.solver.denoiser_calls(own.steps) if own is not None else 0)
        )

    def reference_forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """The reference's output."""
        if self.reference is not None:
            output: State = self.reference(state, time, condition)
            return output
        if self.reference_file is None:
            raise GraftError("there is no reference: give model.weights")
        with adapter_disabled(self.backbone):
            output = self.backbone(state, time, condition)
        return output

    @contextmanager
    def eval_weights(self, weights: Weights = "tuned") -> Iterator[None]:
        """Within the block the network is in evaluation mode and has the weights that sample.

        Those are the averaged ones, if there is an average; for ``current`` the objective may have others.
        """
        with eval_mode(self.backbone), torch.no_grad():
            with self.objective.behaviour_weights(self) if weights == "current" else self.ema_weights():
                yield

    def _told(self, model: Model) -> Model:
        def told(state: State, time: Tensor, condition: Condition) -> State:
            return self.apply_constraint(checked(model(state, time, condition), state), condition)

        return told

    def ema_weights(self) -> AbstractContextManager[None]:
        """Within the block the network has the averaged weights, if there is an average."""
        return nullcontext() if self.average is None else self.average.average_parameters(self.backbone)

    # Lightning's steps

    def predict_step(self, batch: SampleRequest, batch_idx: int = 0) -> Trajectory:
        """Sample: the rollout."""
        generator = seeding.make_generator(self.seed, *batch.seed_key)
        stages = self.sampling_stages(batch.weights)
        if batch.start < 1:  # of the model's own clock
            stages = [
                Stage(stage.process, stage.model, min(stage.start, batch.start), stage.stop, solver=stage.solver)
                for stage in stages
                if stage.stop < batch.start and stage.steps is None
            ]
        if self.has_fixed_part:
            stages = [replace(s, model=self._told(s.model)) if s.steps is None else s for s in stages]
        # ranks that share a network all call it as often
        self.fitted.frozen = self._trainer is not None and shards(self._trainer.strategy)
        stages = [replace(stage, model=self.fitted(stage.model)) for stage in stages]
        shared = shared_errors(self.trainer, NotFiniteError) if self.fitted.frozen else nullcontext()
        with shared, explained(batch.weights), self.eval_weights(batch.weights):
            drawn = run_stages(
                stages, batch.condition, self.steps, batch.record, generator, batch.state, None, self.num_resamples
            )
            for level, state in drawn.states.items() if batch.predict_x0 else ():
                # the one that goes on from there
                stage = next(stage for stage in stages if stage.stop < level and stage.steps is None)
                output = stage.process(stage.model, state, level, batch.condition)
                drawn.x0_predictions[level] = stage.process.predict_x0(output, state, level, batch.condition)
                drawn.denoiser_calls += 1
        return drawn

    def configure_callbacks(self) -> "Sequence[Callback]":
        """Return graft's callbacks; those that a domain returns here are added to them, without ``super()``, too."""
        return missing(self.trainer.callbacks)  # type: ignore[attr-defined]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The objective's loss of a round's examples; the denoising loss of a batch of data."""
        parts = self.trainer.accumulate_grad_batches
        everyone = seeding.make_generator(self.seed, "train", self.global_step, 0)
        generator = seeding.shard_generator(
            everyone, self.global_rank, self.trainer.world_size, batch_idx % parts, parts
        )
        # what networks draw themselves (dropout), so that a step that is done again is the same
        dropout = seeding.derive_seed(self.seed, "dropout", self.global_step, batch_idx % parts, self.global_rank)
        seeding.seed_default(dropout, self.device)
        shown: dict[str, Tensor] = {}
        if isinstance(batch, TrainingBatch):
            examples = batch
            loss, shown = self.objective.loss(self, examples, generator)
        else:
            examples = TrainingBatch(*self.encode(batch))
            loss = self.loss(examples, generator)
        trainer: Any = self.trainer
        every: int = trainer.log_every_n_steps
        last = batch_idx + 1 == self.trainer.num_training_batches  # for callbacks that monitor the loss of a round
        if not last and (not every or (self.global_step + 1) % every):
            return loss  # logging costs about a millisecond
        self.log("train/loss", loss, prog_bar=True, batch_size=size(examples.condition))
        for name, value in shown.items():
            self.log(f"train/{name}", value, batch_size=size(examples.condition))
        return loss

    def loss(self, examples: TrainingBatch, generator: "Generator | None" = None) -> Tensor:
        """The mean weighted denoising loss of the law of the given states, at `sample_levels`."""
        stage = self.trained_stage
        lowest = max(stage.stop, examples.from_level)  # below the reference finishes
        level = self.sample_levels(size(examples.state), lowest, generator)
        loss = stage.process.loss(
            stage.model, examples.state, level, examples.from_level, examples.condition, examples.x0_target, generator
        )
        beside = self.auxiliary_loss(examples, level)
        loss = loss if beside is None else loss + beside
        return (loss if examples.weight is None else loss * examples.weight.to(loss)).mean()

    def sample_levels(self, count: int, lowest: float, generator: "Generator | None") -> Tensor:
        """(count,) levels in (lowest, start] at which training asks the network."""
        highest = self.trained_stage.start
        even = seeding.stratified_levels(count, lowest, generator, highest)
        return (
            even
            if self.timestep_sampler is None
            else seeding.logit_normal(even, lowest, *self.timestep_sampler, highest)
        )

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Judge draws of the tuned model; for a batch of data, its loss."""
        if isinstance(batch, SampleRequest):
            self._judged(batch, batch_idx)
            return
        examples = batch if isinstance(batch, TrainingBatch) else TrainingBatch(*self.encode(batch))
        with self.eval_weights():
            loss = self.loss(examples, seeding.make_generator(self.seed, "validation", batch_idx))
        self.log("validation/loss", loss, prog_bar=True, batch_size=size(examples.state))

    def test_step(self, batch: SampleRequest, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Judge draws of the reference or of the tuned model."""
        self._judged(batch, batch_idx)

    def start_judging(self, *whose: Weights) -> None:
        """Evaluate anew the samples of ``reference``, ``tuned`` or both."""
        data = getattr(self.trainer, "datamodule", None)
        self.evaluators = {weights: SampleEvaluator(getattr(data, "reward", None), self.metrics()) for weights in whose}

    def _judged(self, batch: SampleRequest, batch_idx: int) -> None:
        with shared_errors(self.trainer):
            drawn = self.predict_step(batch, batch_idx)
        number = batch.seed_key[-1]
        assert isinstance(number, int)
        if number % self.trainer.world_size != self.global_rank:  # a repeated one, so that all have as many
            return
        items = self.decode(drawn.state, batch.condition)
        self.evaluators[batch.weights].update(items, drawn.denoiser_calls * len(items), number)

    def configure_model(self) -> None:
        """Shard the networks, where the strategy shards."""
        mesh = self.device_mesh
        if mesh is not None:
            shard(self, mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        """AdamW on what is trained, warm-up and cosine by the step."""
        parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        fused = not str(self.trainer.precision).endswith("-mixed")  # Lightning would refuse to clip
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        if not self.cosine and not self.lr_warmup_steps:
            return optimizer
        # asking Lightning for the number of steps would make it load the data, and a round's data is the round
        a_round = getattr(getattr(self.trainer, "datamodule", None), "steps_per_epoch", None)
        total = self.trainer.estimated_stepping_batches if a_round is None else a_round * (self.trainer.max_epochs or 1)

        def factor(step: int) -> float:
            rise = min(1.0, (step + 1) / (self.lr_warmup_steps + 1))
            fall = 0.5 + 0.5 * float(torch.cos(torch.tensor(torch.pi * min(1.0, step / total)))) if self.cosine else 1.0
            return rise * fall

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Clip to ``clip``, by the norm that the check of the step has computed."""
        check = finite_steps.of(self.trainer)
        plain = (
            self.trainer.gradient_clip_val is None and getattr(self.trainer.precision_plugin, "scaler", None) is None
        )
        if self.clip is not None and check is not None and plain:
            check.clip(optimizer, self.clip)
        else:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip, gradient_clip_algorithm="norm")

    # Files

    def save_weights(self, path: "str | Path", config: str = "") -> None:
        """Write what was trained (averaged, if there is an average), the domain's facts and how to load them.

        Args:
            path: The file.
            config: The run's configuration as YAML: the file says what model it belongs to, without `only_training`.
        """
        write_weights(self, path, config)

    def load_weights(self, path: "str | Path") -> None:
        """Load what `save_weights` wrote into the trained network; a level that is not chosen yet becomes theirs.

        Raises:
            GraftError: They are another network's, or were tuned from another reference.
        """
        read_weights(self, path)
        self._restart()

    def interpolate(self, share: float) -> None:
        """Put the weights ``share`` · tuned + (1 − share) · reference in the place of the tuned ones.

        Raises:
            GraftError: There is no reference, or a corrector, whose weights have no counterpart in it.
        """
        interpolate(self, share)
        self._restart()

    def _restart(self) -> None:
        """Have what follows the trained weights start from them as they are now."""
        if self.average is not None:
            self.average = EMA(self.backbone, self.average.decay)
        self.objective.setup(self)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the reference; Lightning skips the hooks of callbacks for a checkpoint of the weights alone."""
        note_reference(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that is not ours or has another reference, before its weights are loaded."""
        check_checkpoint(self, checkpoint)
