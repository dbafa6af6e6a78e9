"""A callback that ends the process at a given place."""

import gc
import os
import signal
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback
from torch import nn

from domains.molecules.backbone import EGNN
from graft.io.fingerprint import fingerprint
from graft.reward import Reward

STEP = int(os.environ.get("TRIED_STEP", "6"))  # the sixth is in the second round of 4 steps


class Killed(Callback):
    """Kill the process as a machine without memory does, in the phase that TRIED_KILL names."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        where = os.environ.get("TRIED_KILL")
        if stage == "fit" and where == "sampling":  # in the first round, before its second chunk
            pl_module.predict_step = _of_rounds(_mortal(pl_module.predict_step, calls=2), pl_module.predict_step)
        if stage == "fit" and where == "scoring":  # in the second round, before its second chunk
            trainer.datamodule.reward = Mortal(trainer.datamodule.reward, calls=5)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if os.environ.get("TRIED_KILL") == "training" and trainer.global_step == STEP:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("TRIED_KILL") == "signal" and trainer.global_step == STEP and trainer.is_global_zero:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_test_end(self, *args: Any) -> None:
        if os.environ.get("TRIED_KILL") == "comparing":
            os.kill(os.getpid(), signal.SIGKILL)


def _of_rounds(changed: Any, predict_step: Any) -> Any:
    """The changed step for draws of a round, the original one for others."""

    def step(batch: Any, *args: Any) -> Any:
        return (changed if batch.seed_key[0] == "rollout" else predict_step)(batch, *args)

    return step


def _mortal(function: Any, calls: int) -> Any:
    left = iter(range(calls - 1))

    def mortal(*args: Any) -> Any:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)

    return mortal


class Dropping(EGNN):
    """A network that draws numbers of its own while it trains."""

    def forward(self, *args: Any) -> Any:
        out = super().forward(*args)
        return {**out, "h": nn.functional.dropout(out["h"], 0.1, self.training)}


class Mortal(Reward):
    """Another one, until it kills."""

    def __init__(self, reward: Reward, calls: int) -> None:
        self.name, self.score = reward.name, reward.score  # type: ignore[method-assign]
        self._call, self._reward = _mortal(reward.__call__, calls), reward

    def identity(self) -> Any:
        return fingerprint(self._reward)

    def __call__(self, items: Any) -> Any:
        return self._call(items)

    def score(self, item: Any) -> float:
        raise NotImplementedError


def interrupt(number: int = signal.SIGINT, step: int = 6) -> Any:
    """Replace `Killed.on_train_batch_end`: send a signal in that step."""

    def interrupted(self: Callback, trainer: Any, *args: Any) -> None:
        if trainer.global_step == step:
            os.kill(os.getpid(), number)

    return interrupted


def interrupt_drawing(self: Callback, trainer: Any, pl_module: Any, stage: str) -> None:
    """Replace `Killed.setup`: send a signal within the first chunk of the first round."""
    draw = pl_module.predict_step

    def interrupted(*args: Any) -> Any:
        pl_module.predict_step = draw
        os.kill(os.getpid(), signal.SIGINT)
        return draw(*args)

    pl_module.predict_step = _of_rounds(interrupted, draw)


class Measured(Callback):
    """Record after each round: memory in bytes, Python's objects, open files and mapped files."""

    seen: ClassVar[list[dict[str, int]]] = []

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        maps = Path("/proc/self/maps").read_text()
        self.seen.append(
            {
                "memory": pages * os.sysconf("SC_PAGE_SIZE"),
                "objects": len(gc.get_objects()),
                "files": len(os.listdir("/proc/self/fd")),
                "mapped": maps.count(".safetensors"),
                "disk": sum(path.stat().st_size for path in Path("run").rglob("*") if path.is_file()),
            }
        )
