"""Every number has a range, and what no machine can do is refused with the figure before anything is drawn."""

import math
from pathlib import Path

import pytest
from called import MOLECULE, run

from graft import GraftError
from graft.core import limits
from graft.rollouts.feasible import state_bytes

SCHEDULE = ["--model.lr_scheduler=graft.optimizers.WarmupCosine", "--model.lr_scheduler.warmup_steps=0"]


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--model.optimizer.lr", "-1", "model.optimizer.lr is -1; it must be at least 0"),
        ("--model.optimizer.lr", "1e400", "model.optimizer.lr is inf"),
        ("--model.optimizer.weight_decay", "-0.1", "model.optimizer.weight_decay is -0.1"),
        ("--model.lr_scheduler.warmup_steps", "-1", "model.lr_scheduler.warmup_steps is -1"),
        ("--model.lr_scheduler.warmup_steps", "1" + 20 * "0", "model.lr_scheduler.warmup_steps is 1e+20"),
        ("--model.tuning.ema_decay", "-0.5", "model.tuning.ema_decay is -0.5"),
        ("--model.tuning.ema_decay", "1", "at least 0 and below 1"),
        ("--model.steps", "1" + 12 * "0", "model.steps is 1e+12"),
        ("--model.tuning.timestep_sampler", "[0, 1e308]", "spread of model.tuning.timestep_sampler"),
        ("--data.draws", "1" + 13 * "0", "years on any machine"),
        ("--data.draws", "1" + 400 * "0", "for ever"),
        ("--data.train_batch_size", "1" + 12 * "0", "of memory, and this machine has"),
        ("--data.steps_per_round", "1" + 13 * "0", "years on any machine"),
        ("--data.evaluation.validation_draws", "1" + 13 * "0", "data.evaluation.validation_draws"),
        ("--data.evaluation.test_draws", "1" + 13 * "0", "data.evaluation.test_draws"),
        ("--data.budget.max_calls", "-5", "data.budget.max_calls is -5"),
        ("--data.budget.max_failures", ".nan", "data.budget.max_failures is nan"),
        ("--trainer.max_epochs", "1" + 11 * "0", "years on any machine"),
        ("--trainer.max_steps", "0", "trainer.max_steps is 0"),
        ("--trainer.accumulate_grad_batches", "0", "trainer.accumulate_grad_batches is 0"),
        ("--trainer.limit_train_batches", "0", "trainer.limit_train_batches is 0"),
        ("--trainer.limit_test_batches", "0", "trainer.limit_test_batches is 0"),
        ("--trainer.check_val_every_n_epoch", "0", "trainer.check_val_every_n_epoch is 0"),
        ("--trainer.devices", "100000", "trainer.devices is 100000"),
        ("--trainer.accelerator", "tpu", "torch_xla"),
    ],
)
def test_a_number_out_of_its_range(flag: str, value: str, words: str, folder: Path, mixture_fit: list[str]) -> None:
    assert words in run("fit", *mixture_fit, *SCHEDULE, f"{flag}={value}").message
    assert not list(folder.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: foo", 'data is "foo"; it must hold settings by name'),
        ("data: [1, 2]", "data is [1, 2]"),
        ("data: null", "data is null"),
        ("trainer: null", "trainer is null"),
        ("trainer: 3", "trainer is 3"),
        ("model: 5", "model is 5"),
        ("model: {init_args: null}", "model.init_args is null"),
        ("5: 3", "5 is no setting"),
        ("[1, 2]", "no configuration"),
    ],
)
def test_a_section_of_another_kind(text: str, words: str, folder: Path) -> None:
    (folder / "mine.yaml").write_text(text)
    assert words in run("fit", *MOLECULE, "--config", "mine.yaml").message


@pytest.mark.parametrize("command", ["sample", "evaluate", "hits"])
def test_samples_that_take_years(command: str, finished: Path, folder: Path) -> None:
    number = ["--trust", "--draws", 10**15] if command == "hits" else ["-n", 10**15]
    out = [] if command == "evaluate" else ["--out", "new.sdf"]
    assert "years on any machine" in run(command, "--weights", finished, *number, *out).message
    assert not list(folder.iterdir())


def test_ranges() -> None:
    limits.check("x", 1, 1, 2)
    limits.check("x", 2, 1, 2)
    limits.check("x", 10**400, 0)  # an int of any size is a number
    for value, settings in [
        (0.999, {"low": 1}),
        (1, {"low": 1, "above": True}),
        (2, {"high": 2, "below": True}),
        (math.nan, {}),
        (math.inf, {"low": 0}),
        (-math.inf, {"high": 0}),
        (10**400, {"high": 5}),
    ]:
        with pytest.raises(GraftError, match=r"^x is "):
            limits.check("x", value, **settings)  # type: ignore[arg-type]


def test_figures_of_what_is_refused(tmp_path: Path) -> None:
    limits.check_time("9 calls", limits.YEAR, "lower it")
    with pytest.raises(GraftError, match="9 calls take at least 2 years on any machine: lower it"):
        limits.check_time("9 calls", 2 * limits.YEAR, "lower it")
    limits.check_memory("9 states", limits.memory() / 2, "lower it")
    with pytest.raises(GraftError, match=r"9 states need \S+ GB|TB of memory"):
        limits.check_memory("9 states", limits.memory() * 2, "lower it")
    limits.check_disk("9 states", 1.0, tmp_path / "not" / "there", "lower it")
    with pytest.raises(GraftError, match="9 states need 1e\\+06 PB of disk"):
        limits.check_disk("9 states", 1e21, tmp_path / "not" / "there", "lower it")


def test_bytes_of_a_state() -> None:
    """The molecules' state is positions and one-hot types of 16 atoms, in single precision."""
    import graft

    module, _, _ = graft.load("domains/molecule.yaml")
    assert state_bytes(module, module.policy) == 4 * 16 * (3 + 36)
