"""The data of fine-tuning. A round is an epoch: draw, score, accept, keep on disk, serve what was accepted."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from graft import files, seeding
from graft.accept import Accept, TopFraction
from graft.batches import Draws, Examples, Weights
from graft.ema import trained
from graft.errors import GraftError
from graft.module import GraftModule
from graft.objectives import Scored
from graft.reward import Function, Reward
from graft.rounds import Account, Chunk, Round, matched
from graft.state import size


class Served(Dataset[Any]):
    """A round's examples, reshuffled in every pass, as many as its steps need.

    Args:
        examples: What the objective made of the round.
        length: Samples served.
        seed: Of the order.
        purpose: Likewise.
    """

    def __init__(self, examples: Examples, length: int, seed: int, *purpose: "int | str") -> None:
        self.examples, self.length = examples, length
        count = size(examples.condition)
        passes = math.ceil(length / count)
        orders = [torch.randperm(count, generator=seeding.generator(seed, *purpose, p)) for p in range(passes)]
        self.order = torch.cat(orders)[:length]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Examples:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Examples:
        return self.examples.take(self.order[torch.as_tensor(indices)])


class Requests(Dataset[Draws]):
    """Requests for draws in fixed chunks, so that what is drawn depends on no number of processes.

    Args:
        module: Draws the conditions.
        count: Draws in all.
        chunk: Draws in each.
        purpose: What for; seeds conditions and noise.
        weights: Whose draws.
        record: Levels to keep.
    """

    def __init__(
        self,
        module: GraftModule,
        count: int,
        chunk: int,
        purpose: tuple["int | str", ...],
        weights: Weights,
        record: tuple[float, ...] = (),
    ) -> None:
        self.module, self.count, self.chunk = module, count, chunk
        self.purpose, self.weights, self.record = purpose, weights, record

    def __len__(self) -> int:
        return math.ceil(self.count / self.chunk)

    def __getitem__(self, index: int) -> Draws:
        if index >= len(self):
            raise IndexError(index)
        generator = seeding.generator(self.module.seed, "condition", *self.purpose, index)
        condition = self.module.draw_conditions(min(self.chunk, self.count - index * self.chunk), generator)
        return Draws(condition, (*self.purpose, index), self.weights, self.record)


class Rollouts(LightningDataModule):
    """Draws from the model, scores them, accepts some, and serves those for training; each round is an epoch.

    Needs ``Trainer(reload_dataloaders_every_n_epochs=1)``.

    Args:
        reward: A `graft.reward.Reward`, or the dotted path of a Python callable that takes one object.
        accept: The acceptance rule.
        draws: Per round.
        source: Who draws: the ``reference`` in every round, or the ``current`` model (the tuned one, handing over to
            the reference below the level).
        batch_size: Draws in a chunk: the rollout batch and the unit of randomness, so it belongs to the seed.
        train_batch_size: Samples in an optimizer step; ``trainer.accumulate_grad_batches`` is the number of its parts.
        steps_per_round: Optimizer steps in a round.
        window: Train on what was accepted in the last so many rounds; more than one suits source ``reference``, whose
            rounds all have one law.
        validation_draws: Draws of the tuned model after each round, for the curves; 0: none.
        test_draws: Draws of the reference and of the tuned model, with the same noise, for the final comparison.
        keep_weights: Keep the tuned weights of every round in ``rounds/<n>/``, to be had as a run's own.
        run_dir: Folder of the run, in which ``rounds/`` is kept.
        seed: Of the acceptance and of the training order; the command line links it to ``--seed_everything``.
    """

    def __init__(
        self,
        reward: "Reward | str",
        accept: "Accept | None" = None,
        draws: int = 2048,
        source: Literal["reference", "current"] = "reference",
        batch_size: int = 128,
        train_batch_size: int = 64,
        steps_per_round: int = 600,
        window: int = 1,
        validation_draws: int = 512,
        test_draws: int = 2000,
        keep_weights: bool = True,
        run_dir: "str | None" = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("draws", draws, 1),
            ("batch_size", batch_size, 1),
            ("train_batch_size", train_batch_size, 1),
            ("steps_per_round", steps_per_round, 1),
            ("window", window, 1),
            ("validation_draws", validation_draws, 0),
            ("test_draws", test_draws, 1),
        ):
            if value < least:
                raise GraftError(f"data.{name} is {value}, but it must be at least {least}")
        self.reward = Function(reward) if isinstance(reward, str) else reward
        self.accept = accept if accept is not None else TopFraction()
        if self.accept.smallest > draws:
            raise GraftError(f"the rule '{self.accept}' needs {self.accept.smallest} draws, data.draws is {draws}")
        self.draws, self.source, self.batch_size = draws, source, batch_size
        self.train_batch_size, self.steps_per_epoch, self.window = train_batch_size, steps_per_round, window
        self.validation_draws, self.test_draws = validation_draws, test_draws
        self.keep_weights = keep_weights
        self.run_dir = Path(run_dir) if run_dir is not None else None
        self.seed = seed
        self.accounts: list[Account] = []

    @property
    def module(self) -> GraftModule:
        """The model that is tuned."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        if not isinstance(module, GraftModule):
            raise GraftError(f"Rollouts draws from a GraftModule, not from {type(module).__name__}")
        return module

    @property
    def _keyed(self) -> bool:
        return self.accept.deduplicate or type(self.module).key is not GraftModule.key

    @property
    def chunks(self) -> int:
        """Of a round."""
        return math.ceil(self.draws / self.batch_size)

    def folder(self, number: int) -> Path:
        """Of a round, counted from 0."""
        if self.run_dir is None:
            raise GraftError("Rollouts needs run_dir, the folder in which rounds are kept")
        return self.run_dir / "rounds" / str(number)

    def setup(self, stage: str) -> None:
        """Refuse at once what would fail after a round."""
        if stage == "fit":
            self.module.objective.check(self.module, self)
        if stage != "predict":
            self.reward.open()

    def train_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Do the round and serve what it accepted."""
        assert self.trainer is not None
        if getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) != 1:
            raise GraftError("a round is an epoch: use Trainer(reload_dataloaders_every_n_epochs=1)")
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        progress.completed = progress.processed  # as Lightning has it later: a checkpoint's own epoch counts as done
        number = self.trainer.current_epoch
        if number == self.trainer.max_epochs:  # resumed after the last round
            return []
        first = max(0, number - self.window + 1)
        self.accounts = [Account.read(self.folder(n))[0] for n in range(number)]
        module = self.module
        former = [self._former(n) for n in range(first, number)]
        module.objective.start(module, number)
        account, scored = self._round(number)
        self.accounts.append(account)
        self._log(account)
        data = Served(
            Examples.joined([module.objective.examples(module, part) for part in (*former, scored)]),
            self.steps_per_epoch * self.train_batch_size,
            self.seed,
            "order",
            number,
        )
        local = max(1, self.train_batch_size // (self.trainer.world_size * self.trainer.accumulate_grad_batches))
        return DataLoader(data, local, shuffle=False, collate_fn=_same)

    def val_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Requests for draws of the tuned model, the same after every round."""
        if not self.validation_draws:
            return []
        return self._requests(self.validation_draws, "validation", "tuned")

    def test_dataloader(self) -> "list[DataLoader[Any]]":
        """Requests for draws of the reference and of the tuned model, with the same conditions and noise."""
        return [self._requests(self.test_draws, "test", weights) for weights in ("reference", "tuned")]

    def predict_dataloader(self) -> "DataLoader[Any]":
        """Requests for draws of the tuned model."""
        return self._requests(self.test_draws, "predict", "tuned")

    def scores(self, number: int) -> list[float]:
        """The rewards of a round's draws, NaN where it failed."""
        store = Round(self.folder(number), {})
        return [value for index in range(self.chunks) for value in store.read_scores(index)[0].values]

    def _requests(self, count: int, purpose: str, weights: Any) -> "DataLoader[Any]":
        return DataLoader(Requests(self.module, count, self.batch_size, (purpose,), weights), batch_size=None)

    def _round(self, number: int) -> tuple[Account, Scored]:
        """Draw, score and accept; what is on disk of the round is not done again."""
        module, source = self.module, self.source
        origin = {
            "seed": module.seed,
            "round": number,
            "draws": self.draws,
            "batch_size": self.batch_size,
            "steps": module.steps,
            "level": module.level,
            "recorded": list(module.objective.levels(module)),
            "weights": (module.reference_file or {}).get("sha256") if source == "reference" else _identity(module),
        }
        store = Round(self.folder(number), origin)
        self._sample(store, number)
        self._barrier()
        self._score(store, number)
        self._barrier()
        chunk, scores, keys = store.read(self.chunks)
        rewards = torch.tensor(scores.values, dtype=torch.float64)
        if len(scores.failures) == len(rewards):
            first = next(iter(scores.failures.values()))
            self._barrier()
            store.drop_scores()
            raise GraftError(
                f"the reward {self.reward.name} failed for all {len(rewards)} draws (first: {first}): mend it; "
                f"the draws are kept in {store.folder}"
            )
        groups = module.group(chunk.condition)
        signed = rewards if self.reward.maximise else -rewards
        chosen = self.accept(signed, groups, keys, seeding.generator(self.seed, "accept", number))
        mean, covered = matched(rewards, groups, chosen.index, chosen.weight)
        named = [key for key in keys if key]
        account = Account(
            round=number,
            source=source,
            draws=len(rewards),
            accepted=len(chosen.index),
            acceptance_rate=len(chosen.index) / len(rewards),
            effective=chosen.effective,
            kl_nats=chosen.kl_nats,
            failed_rewards=len(scores.failures),
            duplicates=len(named) - len(set(named)),
            reward=float(rewards.nanmean()),
            accepted_reward=mean,
            matched_share=covered,
            denoiser_calls=len(rewards) * module.steps,
            reward_calls=len(rewards),
            failures=dict(Counter(scores.failures.values()).most_common(5)),
        )
        if self.trainer is not None and self.trainer.is_global_zero:
            account.write(store.folder, chosen.index, chosen.weight)
        self._barrier()
        return account, Scored(chunk, signed, groups, chosen.index, chosen.weight, source)

    def _sample(self, store: Round, number: int) -> None:
        assert self.trainer is not None
        module = self.module
        record = module.objective.levels(module)
        requests = Requests(module, self.draws, self.batch_size, ("rollout", number), self.source, record)
        for index in self._bar(number, "sampling"):
            if store.has_chunk(index):
                store.read_chunk(index)  # refuses another model's
                continue
            batch = self.trainer.strategy.batch_to_device(requests[index])
            drawn = self.trainer.strategy.predict_step(batch, index)
            store.write_chunk(index, Chunk(drawn.state, drawn.recorded, batch.condition))

    def _score(self, store: Round, number: int) -> None:
        module = self.module
        try:
            for index in self._bar(number, "scoring"):
                if store.has_scores(index):
                    continue
                chunk = store.read_chunk(index)
                items = module.decode(chunk.state, chunk.condition)
                keys = [module.key(item) for item in items] if self._keyed else [""] * len(items)
                store.write_scores(index, self.reward(items), keys)
        finally:
            self.reward.close()

    def _former(self, number: int) -> Scored:
        """An earlier round, from disk."""
        _, index, weight = Account.read(self.folder(number))
        folder = self.folder(number)
        _, about = files.read_tensors(folder / "chunk_00000.safetensors")
        chunk, scores, _ = Round(folder, about["origin"]).read(self.chunks)
        rewards = torch.tensor(scores.values, dtype=torch.float64)
        signed = rewards if self.reward.maximise else -rewards
        return Scored(chunk, signed, self.module.group(chunk.condition), index, weight, self.source)

    def _bar(self, number: int, what: str) -> Iterator[int]:
        """This process's chunks, with progress in draws."""
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        quiet = self.trainer.progress_bar_callback is None or not self.trainer.is_global_zero
        title = f"round {number + 1}/{self.trainer.max_epochs} {what}"
        with tqdm(total=self.draws, desc=title, unit="draw", disable=quiet, leave=True, mininterval=0.5) as bar:
            for index in range(rank, self.chunks, world):
                yield index
                bar.update(min(self.batch_size * world, self.draws - bar.n))

    def _barrier(self) -> None:
        assert self.trainer is not None
        self.trainer.strategy.barrier()

    def _log(self, account: Account) -> None:
        assert self.trainer is not None
        values = {
            "rollout/reward": account.reward,
            "rollout/accepted_reward": account.accepted_reward,
            "rollout/acceptance_rate": account.acceptance_rate,
            "rollout/kl_nats": account.kl_nats,
            "rollout/failed_rewards": float(account.failed_rewards),
            "rollout/duplicates": float(account.duplicates),
        }
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.trainer.global_step)


def _identity(module: GraftModule) -> str:
    """A hash of the weights that roll out."""
    with module.sampling("current"):
        return files.in_memory(dict(trained(module.backbone)))


def _same(batch: Any) -> Any:
    return batch
