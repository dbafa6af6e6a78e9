"""The data of fine-tuning. A round is an epoch: draw, score, accept, keep on disk, serve what was accepted."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from graft import files, seeding
from graft.accept import Accept, TopFraction
from graft.alarms import Alarms
from graft.ema import trained
from graft.errors import GraftError
from graft.filters import Candidates, Filter, Past, screen
from graft.module import Draws, Examples, GraftModule, Weights
from graft.reward import Function, Reward
from graft.rounds import Account, Chunk, Round, matched
from graft.state import State, cat, size, take

ALARMS = Alarms()


@dataclass
class Shaped:
    """The accepted samples of a round: what the law at ``level`` is learned from."""

    state: State
    condition: State
    weight: Tensor
    target: "State | None"


class Accepted(Dataset[Any]):
    """Accepted samples, reshuffled in every pass, as many as the steps of a round need.

    Args:
        shaped: What was accepted.
        level: Of the states.
        length: Samples served.
        seed: Of the order.
        purpose: Likewise.
    """

    def __init__(self, shaped: Shaped, level: float, length: int, seed: int, *purpose: "int | str") -> None:
        self.shaped, self.level, self.length = shaped, level, length
        count = size(shaped.state)
        passes = math.ceil(length / count)
        orders = [torch.randperm(count, generator=seeding.generator(seed, *purpose, p)) for p in range(passes)]
        self.order = torch.cat(orders)[:length]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Examples:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Examples:
        chosen = self.order[torch.as_tensor(indices)]
        shaped = self.shaped
        condition = take(shaped.condition, chosen)
        assert isinstance(condition, dict)
        target = None if shaped.target is None else take(shaped.target, chosen)
        return Examples(take(shaped.state, chosen), condition, shaped.weight[chosen], self.level, target)


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
        filters: Applied before the rule, one after the other; see `graft.filters`.
        draws: Per round.
        source: Who draws: the ``reference`` in every round, or the ``current`` model (the tuned one, handing over to
            the reference below the level).
        batch_size: Draws in a chunk: the rollout batch and the unit of randomness, so it belongs to the seed.
        train_batch_size: Accepted samples in an optimizer step.
        steps_per_round: Optimizer steps in a round.
        window: Train on what was accepted in the last so many rounds; more than one suits source ``reference``, whose
            rounds all have one law.
        validation_draws: Draws of the tuned model after each round, for the curves; 0: none.
        test_draws: Draws of the reference and of the tuned model, with the same noise, for the final comparison.
        alarms: What is watched in the validation draws besides the reward; ``null``: nothing.
        held_out: Another reward, given like ``reward``, that nothing is accepted by: it is watched too.
        run_dir: Folder of the run, in which ``rounds/`` is kept.
        seed: Of the acceptance and of the training order; the command line links it to ``--seed_everything``.
    """

    def __init__(
        self,
        reward: "Reward | str",
        accept: "Accept | None" = None,
        filters: "list[Filter] | None" = None,
        draws: int = 2048,
        source: Literal["reference", "current"] = "reference",
        batch_size: int = 128,
        train_batch_size: int = 64,
        steps_per_round: int = 600,
        window: int = 1,
        validation_draws: int = 512,
        test_draws: int = 2000,
        alarms: "Alarms | None" = ALARMS,
        held_out: "Reward | str | None" = None,
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
        self.filters = filters or []
        self.alarms, self.held_out = alarms, Function(held_out) if isinstance(held_out, str) else held_out
        self.draws, self.source, self.batch_size = draws, source, batch_size
        self.train_batch_size, self.steps_per_epoch, self.window = train_batch_size, steps_per_round, window
        self.validation_draws, self.test_draws = validation_draws, test_draws
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
            self.module.target(self.source)
            self._suits(self.module)
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
        self.accounts = [Account.read(self.folder(n))[0] for n in range(number)]
        if number == self.trainer.max_epochs or self.trainer.should_stop:  # resumed after the last round
            return []
        first = max(0, number - self.window + 1)
        shaped = [self._accepted(n) for n in range(first, number)]
        account, index, weight, chunk = self._round(number)
        self.accounts.append(account)
        shaped.append(self._shaped(number, chunk, index, weight))
        self._log(account)
        data = Accepted(
            _joined(shaped),
            0.0 if self.module.target(self.source) == "renoised" else self.module.level,
            self.steps_per_epoch * self.train_batch_size,
            self.seed,
            "order",
            number,
        )
        local = max(1, self.train_batch_size // self.trainer.world_size)
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

    def _round(self, number: int) -> tuple[Account, Tensor, Tensor, Chunk]:
        """Draw, score and accept; what is on disk of the round is not done again."""
        module, source = self.module, self.source
        weights: Weights = "reference" if source == "reference" else "tuned"
        origin = {
            "seed": module.seed,
            "round": number,
            "draws": self.draws,
            "batch_size": self.batch_size,
            "steps": module.steps,
            "level": module.level,
            "weights": (module.reference_file or {}).get("sha256") if weights == "reference" else _identity(module),
        }
        store = Round(self.folder(number), origin)
        self._sample(store, number, weights)
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
        left = self._screened(number, chunk, signed, groups, keys)
        generator = seeding.generator(self.seed, "accept", number)
        chosen = self.accept(signed, groups, keys, generator, left.left, left.spare)
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
            refused=dict(left.refused),
        )
        if self.trainer is not None and self.trainer.is_global_zero:
            account.write(store.folder, chosen.index, chosen.weight)
        self._barrier()
        return account, chosen.index, chosen.weight, chunk

    def _sample(self, store: Round, number: int, weights: Weights) -> None:
        assert self.trainer is not None
        module = self.module
        record = (module.level,) if module.level > 0 else ()
        requests = Requests(module, self.draws, self.batch_size, ("rollout", number), weights, record)
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

    def _accepted(self, number: int) -> Shaped:
        """What an earlier round accepted, from disk."""
        _, index, weight = Account.read(self.folder(number))
        return self._shaped(number, self._read(number)[0], index, weight)

    def _read(self, number: int) -> tuple[Chunk, list[str]]:
        """An earlier round's draws and their keys, from disk."""
        folder = self.folder(number)
        _, about = files.read_tensors(folder / "chunk_00000.safetensors")
        chunk, _, keys = Round(folder, about["origin"]).read(self.chunks)
        return chunk, keys

    @property
    def _needs(self) -> frozenset[str]:
        return frozenset().union(*(each.needs for each in self.filters))

    def _suits(self, module: GraftModule) -> None:
        """Refuse filters that the domain has not what for."""
        if "keys" in self._needs and type(module).key is GraftModule.key:
            raise GraftError(f"{type(module).__name__} has no key for its objects: data.filters need one")
        if "known" in self._needs:
            module.known([])
        if "features" in self._needs:
            module.features([])

    def _screened(self, number: int, chunk: Chunk, rewards: Tensor, groups: Tensor, keys: list[str]) -> Candidates:
        """What the filters leave, given what the rounds on disk before this one accepted."""
        module, needs, past = self.module, self._needs, []
        known = module.known(keys) if "known" in needs else None
        features = module.features(module.decode(chunk.state, chunk.condition)) if "features" in needs else None
        for earlier in range(number) if self.filters else ():
            index = Account.read(self.folder(earlier))[1]
            drawn, named = self._read(earlier)
            state, condition = take(drawn.state, index), take(drawn.condition, index)
            assert isinstance(condition, dict)
            theirs = module.features(module.decode(state, condition)) if features is not None else None
            past.append(Past([named[i] for i in index.tolist()], module.group(condition), theirs))
        draws = Candidates(rewards, keys, groups, features, known)
        return screen(self.filters, draws, past, seeding.generator(self.seed, "filter", number))

    def describe(self) -> str:
        """The filters and the rule in a few words."""
        return "".join(f"{each}, then " for each in self.filters) + self.accept.describe()

    def _shaped(self, number: int, chunk: Chunk, index: Tensor, weight: Tensor) -> Shaped:
        level, target = self.module.level, self.module.target(self.source)
        final, condition = take(chunk.state, index), take(chunk.condition, index)
        if level == 0 or target == "renoised":
            return Shaped(final, condition, weight.float(), None)
        return Shaped(
            take(chunk.recorded[level], index), condition, weight.float(), final if target == "trajectory" else None
        )

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
        if self.filters:
            values["rollout/refused"] = float(sum(account.refused.values()))
        for logger in self.trainer.loggers:
            logger.log_metrics(values, self.trainer.global_step)


def _identity(module: GraftModule) -> str:
    """A hash of the weights that roll out."""
    with module.sampling():
        return files.in_memory(dict(trained(module.backbone)))


def _joined(parts: list[Shaped]) -> Shaped:
    targets = [part.target for part in parts if part.target is not None]
    return Shaped(
        cat([part.state for part in parts]),
        cat([part.condition for part in parts]),
        torch.cat([part.weight for part in parts]),
        cat(targets) if targets else None,
    )


def _same(batch: Any) -> Any:
    return batch
