"""Try every hook of a domain on three samples, before anything is trained."""

import copy
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from graft.core import seeding
from graft.core.datatypes import SampleRequest, TrainingBatch
from graft.core.state import Condition, State
from graft.domain import hooks
from graft.errors import GraftError
from graft.module import GraftModule
from graft.reward import score_objects
from graft.rollouts import Rollouts

COUNT = 3
"""Number of samples: one more than two, so that a shape of a pair of objects is no shape of the batch."""
WITHOUT = {  # hooks without which graft does less
    "key": "no de-duplication, memory or novelty",
    "in_training_set": "no novelty",
    "features": "no similarity filter, diversity or distance of features",
    "encode": "no training on data",
    "read_scored": "no scored files",
    "render": "no pictures",
}


@dataclass(frozen=True)
class Trial:
    """The result of one check.

    Attributes:
        name: Name of the hook or part.
        fault: The sentence that says what is wrong; "" if nothing is.
        note: Shapes, values or the reason why the check was left out.
    """

    name: str
    fault: str = ""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.name:<18} {'FAULT' if self.fault else 'ok':<6} {self.fault or self.note}".rstrip()


def check_domain(module: GraftModule, data: "LightningDataModule | None" = None) -> list[Trial]:
    """Try every hook of a domain on three samples and return the results.

    Args:
        module: The model; its weights may be untrained.
        data: Rollouts, whose reward is tried, or a data set, whose first batch is tried; None for neither.
    """
    check = _Check(module, data)
    with module.policy.whole_clock(), torch.random.fork_rng():
        with torch.no_grad(), module.policy.eval_weights():
            check.sampling()
            if check.items is not None:
                check.objects(check.items)
                check.files(check.items)
        check.training()
    return check.trials


class _Check:
    def __init__(self, module: GraftModule, data: "LightningDataModule | None") -> None:
        self.module, self.data = module, data
        self.kind = type(module).__qualname__
        self.trials: list[Trial] = []
        self.condition: Condition | None = None
        self.state: State | None = None
        self.items: list[Any] | None = None

    def attempt(self, name: str, trial: Callable[[], "str | None"], hook: str = "") -> bool:
        """Run a trial, keep its result, and return True if there is no fault.

        Args:
            name: Name of the result.
            trial: Returns a note, or raises an error.
            hook: Hook without which the trial is left out.
        """
        if hook and not self.module.supports(hook):
            without = f" ({WITHOUT[hook]})" if hook in WITHOUT else ""
            self.trials.append(Trial(name, note=f"not implemented{without}"))
            return True
        try:
            with hooks.named(f"{self.kind}.{hook or name}"):
                note = trial()
        except GraftError as error:
            self.trials.append(Trial(name, fault=" ".join(str(error).split())))
            return False
        self.trials.append(Trial(name, note=note or ""))
        return True

    def sampling(self) -> None:
        """Try conditions, the process, the network, and the samples."""
        if self.attempt("sample_conditions", self._conditions, "sample_conditions"):
            self.attempt("group", self._group)
            if self.attempt("network", self._network) and self.attempt("device", self._device):
                self.attempt("decode", self._decode, "decode")

    def _conditions(self) -> str:
        def sampled(seed: int, count: int = COUNT) -> Condition:
            generator = seeding.make_generator(seed, "check")
            return self.module.conditions_for(("check", 0), 0, count, generator)

        condition = sampled(0)
        if not isinstance(condition, dict) or not any(isinstance(each, Tensor) for each in condition.values()):
            raise GraftError(
                f"{self.kind}.sample_conditions returned {type(condition).__name__}; it must return a dict of tensors"
            )
        for count, found in ((COUNT, condition), (1, sampled(0, 1))):
            for name, value in found.items():
                if isinstance(value, Tensor) and (value.ndim == 0 or len(value) != count):
                    raise GraftError(
                        f"{self.kind}.sample_conditions returned {name!r} of shape {tuple(value.shape)} for {count} "
                        f"samples; its first dimension must be {count}"
                    )
        if not _equal(condition, sampled(0)):
            raise GraftError(
                f"{self.kind}.sample_conditions returned other conditions for the same generator. Draw all random "
                "numbers from the generator that it gets."
            )
        self.condition = condition
        return _shapes(condition)

    def _group(self) -> str:
        assert self.condition is not None
        return f"{len(set(self.module.group(self.condition).tolist()))} of {COUNT} differ"

    def _network(self) -> str:
        assert self.condition is not None
        policy, condition = self.module.policy, _moved(self.condition, self.module.device)
        state = policy.process.prior(condition, seeding.make_generator(0, "check"))
        time = policy.process.timestep(1.0).to(self.module.device).float().expand(COUNT)
        output = policy.backbone(state, time, condition)
        ours, theirs = _fields(state), _fields(output)
        for name, value in ours.items():
            found = theirs.get(name)
            if not isinstance(found, Tensor) or found.shape != value.shape:
                shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(output).__name__
                raise GraftError(
                    f"the network returned {shown} for a state of shape {tuple(value.shape)}{_of(name)}; its output "
                    "must have the shape of the state"
                )
            if not bool(found.isfinite().all()):
                raise GraftError(
                    f"the network returned values that are not finite{_of(name)} for the noise of a sample"
                )
        self.state = state
        return _shapes(state)

    def _device(self) -> str:
        """Call the network on another device, where a tensor that it makes on the processor fails."""
        assert self.condition is not None and self.state is not None
        device = torch.device("cuda" if torch.cuda.is_available() else "meta")
        network = copy.deepcopy(self.module.policy.backbone).to(device)
        state, condition = _moved(self.state, device), _moved(self.condition, device)
        try:
            network(state, self.module.policy.process.timestep(1.0).float().expand(COUNT).to(device), condition)
        except Exception as error:
            text = " ".join(str(error).split())
            if "device" in text and "cpu" in text and "copy out of meta" not in text:
                raise GraftError(
                    f"the network makes a tensor on the processor while its inputs are elsewhere ({text[:120]}). Give "
                    "new tensors the device of the inputs."
                ) from None
            if device.type == "cuda":
                raise
            return "left out: the network looks at values"  # which a device without memory does not have
        return str(device)

    def _decode(self) -> str:
        assert self.condition is not None
        device = self.module.device
        request = SampleRequest(_moved(self.condition, device), ("check", 0), "tuned")
        drawn = self.module.policy.sample(request, seeding.make_generator(0, "check"))
        self.items = self.module.decode(drawn.state, self.condition)
        if self.module.supports("key"):
            again = self.module.decode(drawn.state, self.condition)
            if [self.module.key(each) for each in self.items] != [self.module.key(each) for each in again]:
                raise GraftError(f"{self.kind}.decode returned other objects for the same state; it must not be random")
        return f"{COUNT} of {type(self.items[0]).__name__}"

    def objects(self, items: list[Any]) -> None:
        """Try the hooks of objects, with three of them and with none."""
        module = self.module
        self.attempt("key", lambda: ", ".join(repr(module.key(each))[:24] for each in items), "key")
        self.attempt("in_training_set", lambda: self._known(items), "in_training_set")
        self.attempt("features", lambda: self._features(items), "features")
        self.attempt("metrics", lambda: self._metrics(items))
        self.attempt("render", lambda: self._render(items), "render")
        self.attempt(
            "render_html", lambda: f"{len(module.render_html(items, ['a'] * COUNT))} characters", "render_html"
        )
        self.attempt("table_columns", lambda: self._columns(items), "table_columns")
        self.attempt("postprocess", lambda: self._postprocess(items), "postprocess")
        if isinstance(self.data, Rollouts) and self.data.reward is not None:
            self.attempt("reward", lambda: self._reward(items))

    def _known(self, items: list[Any]) -> str:
        keys = [self.module.key(each) for each in items]
        for each in (keys, []):
            found = self.module.in_training_set(each)
            if not isinstance(found, Tensor) or found.dtype != torch.bool or found.shape != (len(each),):
                raise GraftError(
                    f"{self.kind}.in_training_set returned {_shown(found)} for {len(each)} keys; it must return a bool "
                    f"tensor of shape ({len(each)},)"
                )
        return f"{int(self.module.in_training_set(keys).sum())} of {COUNT} known"

    def _features(self, items: list[Any]) -> str:
        found, none = self.module.features(items), self.module.features([])
        if not bool(found.isfinite().all()):
            raise GraftError(f"{self.kind}.features returned values that are not finite; it must return zeros instead")
        if none.shape[1:] != found.shape[1:]:
            raise GraftError(
                f"{self.kind}.features returned shape {tuple(none.shape)} for no objects; it must return (0, "
                f"{found.shape[1]})"
            )
        return str(tuple(found.shape))

    def _metrics(self, items: list[Any]) -> str:
        values = []
        for name, metric in self.module.metrics().items():
            hooks.update(metric, name, [])
            hooks.update(metric, name, items)
            try:
                hooks.compute(metric, name)
            except GraftError as error:
                if "returned" in str(error):  # a wrong type; other metrics need more objects
                    raise
                name += " (needs more objects)"
            values.append(name)
        return ", ".join(values) or "none"

    def _render(self, items: list[Any]) -> str:
        picture = self.module.render(items, ["a"] * COUNT)
        if picture is not None and not picture.startswith(b"\x89PNG"):
            raise GraftError(f"{self.kind}.render returned bytes that are no PNG; it must return a PNG or None")
        return "no picture" if picture is None else f"{len(picture)} bytes"

    def _columns(self, items: list[Any]) -> str:
        columns = self.module.table_columns(items)
        for name, cells in columns.items():
            if len(cells) != len(items):
                raise GraftError(
                    f"{self.kind}.table_columns returned {len(cells)} cells of {name!r} for {len(items)} objects"
                )
        return ", ".join(columns)

    def _postprocess(self, items: list[Any]) -> str:
        for each in (items, []):
            found = self.module.postprocess(each)
            if len(found) != len(each):
                raise GraftError(f"{self.kind}.postprocess returned {len(found)} objects for {len(each)}")
        return ""

    def _reward(self, items: list[Any]) -> str:
        assert isinstance(self.data, Rollouts) and self.data.reward is not None
        reward = self.data.reward
        reward.setup()
        try:
            scores = score_objects(reward, items)
        finally:
            reward.teardown()
        if len(scores.failures) == len(items):
            raise GraftError(f"the reward {reward.name} failed for all {COUNT} objects ({scores.failures[0]})")
        return ", ".join("failed" if math.isnan(value) else f"{value:.4g}" for value in scores.values)

    def files(self, items: list[Any]) -> None:
        """Try to write objects in each format, and to read them back with their scores."""
        suffixes = self.module.file_suffixes or ((self.module.file_suffix,) if self.module.file_suffix else ())
        if not suffixes:
            self.trials.append(Trial("write", note="no file format (file_suffix is not set)"))
        for suffix in suffixes:
            self.attempt(f"write {suffix}", lambda suffix=suffix: self._write(items, suffix))  # type: ignore[misc]
        if self.module.file_suffix:
            self.attempt("read_scored", lambda: self._read(items), "read_scored")
        else:
            self.attempt("read_scored", lambda: "left out: no file format", "read_scored")

    def _write(self, items: list[Any], suffix: str) -> str:
        sizes = []
        cases: list[tuple[list[Any], list[float] | None]] = [(items, [1.0, 2.0, math.nan]), (items, None), ([], [])]
        for objects, rewards in cases:
            with tempfile.TemporaryDirectory(prefix="graft-") as folder:
                path = Path(folder) / f"objects{suffix}"
                with hooks.named(f"{self.kind}.write of {len(objects)} objects as {suffix}"):
                    self.module.write(objects, path, rewards)
                if objects and not any(Path(folder).iterdir()):
                    raise GraftError(f"{self.kind}.write wrote no {suffix} file to the given path")
                sizes.append(sum(each.stat().st_size for each in Path(folder).rglob("*") if each.is_file()))
        return f"{sizes[0]} bytes"

    def _read(self, items: list[Any]) -> str:
        """Read the written file: its objects must have the keys and the scores that were written."""
        with tempfile.TemporaryDirectory(prefix="graft-") as folder:
            path = Path(folder) / f"objects{self.module.file_suffix}"
            self.module.write(items, path, [1.0, 2.0, 3.0])
            try:
                found = self.module.read_scored(path, "reward")
            except GraftError as error:
                return f"left out: these samples cannot be read ({error})"
        keys = [self.module.key(each) for each in items] if self.module.supports("key") else []
        written = dict(zip(keys, [1.0, 2.0, 3.0], strict=True)) if len(set(keys)) == COUNT else {}
        for key, value in zip(found.keys, found.values, strict=True):
            if written and written.get(key) != value:
                raise GraftError(
                    f"{self.kind}.read_scored read the object {key!r} with the score {value:g}, which is not what "
                    f"{self.kind}.write wrote ({', '.join(f'{k!r}: {v:g}' for k, v in written.items())})"
                )
        return f"{len(found.values)} of {COUNT} read back"

    def training(self) -> None:
        """Try a training step on the samples, and on the first batch of a data set."""
        if self.state is not None and self.condition is not None:
            self.attempt("loss", lambda: self._loss(self.state, self.condition))
        if self.data is None or isinstance(self.data, Rollouts):
            self.attempt("encode", lambda: "left out: give a configuration of graft pretrain to try it", "encode")
            return
        self.attempt("encode", self._encode, "encode")

    def _loss(self, state: Any, condition: Any) -> str:
        batch = TrainingBatch(state, _moved(condition, self.module.device))
        loss = self.module.policy.loss(batch, seeding.make_generator(0, "check"))
        if not bool(loss.isfinite()):
            raise GraftError(f"the loss of {COUNT} samples is {float(loss)}; it must be finite")
        loss.backward()  # type: ignore[no-untyped-call]
        trained = [each for each in self.module.policy.backbone.parameters() if each.requires_grad]
        reached = sum(each.grad is not None for each in trained)
        self.module.zero_grad(set_to_none=True)
        if not reached:
            raise GraftError("the loss depends on no parameter of the network")
        return f"{float(loss.detach()):.4g}, a gradient for {reached} of {len(trained)} parameters"

    def _encode(self) -> str:
        data: Any = self.data
        data.prepare_data()
        data.setup("fit")
        state, condition = self.module.encode(next(iter(data.train_dataloader())))
        prior = self.module.policy.process.prior(condition, seeding.make_generator(0, "check"))
        if _shapes(state) != _shapes(prior):
            raise GraftError(
                f"{self.kind}.encode returned states of shape {_shapes(state)}; the process has {_shapes(prior)}"
            )
        items = self.module.decode(state, condition)
        self._loss(state, condition)
        return f"{_shapes(state)}, {len(items)} objects decoded"


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, dict):
        return {name: _moved(each, device) for name, each in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def _fields(value: Any) -> dict[str, Any]:
    """Return the tensors of a state by name; a single tensor has the name ""."""
    return value if isinstance(value, dict) else {"": value}


def _equal(first: Condition, second: Condition) -> bool:
    return all(
        torch.equal(value, second[name]) if isinstance(value, Tensor) else value == second[name]
        for name, value in first.items()
    )


def _shapes(state: Any) -> str:
    """Return the shapes of a state or a condition in words."""
    if isinstance(state, Tensor):
        return str(tuple(state.shape))
    return ", ".join(f"{name} {_shown(value)}" for name, value in state.items())


def _shown(value: Any) -> str:
    return f"{tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _of(name: str) -> str:
    return f" of {name}" if name else ""


def faults(trials: Sequence[Trial]) -> list[str]:
    """Return the sentences that say what is wrong."""
    return [each.fault for each in trials if each.fault]
