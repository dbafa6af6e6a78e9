"""Check ranges of settings, and the time, memory and disk that a run needs.

A run that exceeds the memory, the free disk or a year of time ends before it starts. The message has the figure.
"""

import math
import os
import shutil
from pathlib import Path
from typing import Any

from graft.errors import GraftError

YEAR = 365.25 * 24 * 3600
FASTEST_CALL = 1e-6  # s; lower bound of a network call for one sample
FASTEST_STEP = 1e-5  # s; lower bound of an optimizer step
MOST_STEPS = 1_000_000  # limit of sampler steps, because the levels are a list
MOST_PROCESSES = 4  # ranks per core
MOST_WARMUP = 1_000_000_000  # optimizer steps
MOST_LOGIT = 30.0  # a level with a larger logit is 0 or 1 in single precision


def check(
    name: str,
    value: "float | None",
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
) -> None:
    """Raise GraftError if a number is out of its range.

    Args:
        name: Setting as the user writes it, for the message.
        value: Value of the setting; None for a setting that is not given, which passes.
        low: Smallest allowed value.
        high: Largest allowed value.
        above: True to exclude ``low`` itself.
        below: True to exclude ``high`` itself.
    """
    if value is None:
        return
    inside = (value > low if above else value >= low) and (value < high if below else value <= high)
    try:
        finite = math.isfinite(value)
    except OverflowError:  # an int that is too large for a float
        finite = True
    if inside and finite:
        return
    lower = f"{'above' if above else 'at least'} {low:g}" if low > -math.inf else ""
    upper = f"{'below' if below else 'at most'} {high:g}" if high < math.inf else ""
    condition = " and ".join(part for part in (lower, upper) if part) or "a finite number"
    raise GraftError(f"{name} is {shown(value)}; it must be {condition}")


def product(*factors: int) -> float:
    """Return the product of counts as a float, or infinity if it overflows."""
    try:
        return float(math.prod(factors))
    except OverflowError:
        return math.inf


def check_trainer(trainer: Any) -> None:
    """Raise GraftError for trainer settings that Lightning accepts and that no run can use."""
    check("trainer.accumulate_grad_batches", trainer.accumulate_grad_batches, 1, MOST_STEPS)
    for name in ("limit_train_batches", "limit_test_batches", "limit_predict_batches"):
        check(f"trainer.{name}", getattr(trainer, name), 0, above=True)
    check("trainer.val_check_interval", trainer.val_check_interval, 0, above=True)
    check("trainer.check_val_every_n_epoch", trainer.check_val_every_n_epoch, 1)
    check("trainer.log_every_n_steps", trainer.log_every_n_steps, 0)
    check("trainer.gradient_clip_val", trainer.gradient_clip_val, 0)
    cores = os.cpu_count() or 1
    if trainer.accelerator.__class__.__name__ == "CPUAccelerator" and trainer.num_devices > MOST_PROCESSES * cores:
        raise GraftError(
            f"trainer.devices is {trainer.num_devices} processes; this machine's {cores} cores take at most "
            f"{MOST_PROCESSES * cores}"
        )
    if trainer.max_steps == 0:
        raise GraftError("trainer.max_steps is 0; it must be at least 1, or -1 for no limit")


def shown(value: float) -> str:
    """Return a number as text, a very large one as a power of ten."""
    try:
        return f"{value:g}" if isinstance(value, float) or abs(value) < 1e15 else f"{float(value):.3g}"
    except OverflowError:
        return f"10^{len(str(value)) - 1}"


def check_time(what: str, seconds: float, remedy: str) -> None:
    """Raise GraftError if work takes longer than a year on any machine.

    Args:
        what: Name of the work, a plural subject for the message.
        seconds: Lower bound of its time in seconds.
        remedy: Action in the imperative, for the message.
    """
    if seconds > YEAR:
        years = f"at least {seconds / YEAR:.3g} years on any machine" if math.isfinite(seconds) else "for ever"
        raise GraftError(f"{what} take {years}: {remedy}")


def check_memory(what: str, needed: float, remedy: str) -> None:
    """Raise GraftError if data exceed the memory of this machine.

    Args:
        what: Name of the data, a plural subject for the message.
        needed: Number of bytes of the data.
        remedy: Action in the imperative, for the message.
    """
    there = memory()
    if needed > there:
        raise GraftError(f"{what} need {_bytes(needed)} of memory, and this machine has {_bytes(there)}: {remedy}")


def check_disk(what: str, needed: float, folder: Path, remedy: str) -> None:
    """Raise GraftError if data exceed the free disk of a folder.

    Args:
        what: Name of the data, a plural subject for the message.
        needed: Number of bytes of the data.
        folder: Folder of the data, which may be missing.
        remedy: Action in the imperative, for the message.
    """
    there = next((each for each in (folder.absolute(), *folder.absolute().parents) if each.exists()), None)
    if there is None:
        return
    free = shutil.disk_usage(there).free
    if needed > free:
        raise GraftError(f"{what} need {_bytes(needed)} of disk, and {there} has {_bytes(free)} free: {remedy}")


def memory() -> float:
    """Return the bytes of memory of this machine, or infinity if they are unknown."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # these names are missing on some systems
        return math.inf


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} PB"
