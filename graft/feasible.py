"""What a machine can do: draws and steps that cannot fit or would take years are refused with the figure."""

from pathlib import Path

from torch import Tensor

from graft import limits, seeding
from graft.module import GraftModule


def state_bytes(module: GraftModule) -> int:
    """Return the bytes of one sample's state."""
    generator = seeding.make_generator(0, "size")
    condition = module.conditions_for(("size",), 0, 1, generator)
    state = module.process.prior(condition, generator)
    fields = [state] if isinstance(state, Tensor) else list(state.values())
    return sum(field.numel() * field.element_size() for field in fields)


def check_sampling(module: GraftModule, name: str, count: int, times: int = 1) -> None:
    """Refuse samples that this machine cannot draw or hold.

    Args:
        module: Draws them.
        name: Setting of their number, for the message.
        count: Number of samples that are held at a time.
        times: How often so many are drawn.

    Raises:
        GraftError: They take years, or more memory than there is.
    """
    samples, remedy = f"{limits.shown(count)} samples ({name})", "take fewer"
    calls = limits.product(count, times, module.denoiser_calls("tuned"))
    limits.check_time(samples, calls * limits.FASTEST_CALL, remedy)
    limits.check_memory(samples, limits.product(count, state_bytes(module)), remedy)


def check_rounds(
    module: GraftModule,
    folder: "Path | None",
    *,
    draws: int,
    levels: int,
    rounds: int,
    batch_size: int,
    train_batch_size: int,
    steps_per_round: int,
) -> None:
    """Refuse rounds that this machine cannot do.

    Args:
        module: The model.
        folder: Where rounds are written, if that is known.
        draws: Of a round; 0 if nothing is sampled.
        levels: Number of levels whose states are recorded, besides the final one.
        rounds: Number of rounds.
        batch_size: Draws at a time.
        train_batch_size: Samples of an optimizer step.
        steps_per_round: Optimizer steps of a round.

    Raises:
        GraftError: They take years, or more memory or disk than there is.
    """
    size = state_bytes(module)
    calls = limits.product(draws, rounds, module.denoiser_calls("tuned"))
    limits.check_time(
        f"{limits.shown(rounds)} rounds of {limits.shown(draws)} draws",
        calls * limits.FASTEST_CALL,
        "lower data.draws or trainer.max_epochs",
    )
    limits.check_time(
        f"{limits.shown(rounds)} rounds of {limits.shown(steps_per_round)} optimizer steps",
        limits.product(steps_per_round, rounds) * limits.FASTEST_STEP,
        "lower data.steps_per_round or trainer.max_epochs",
    )
    if draws:  # a batch has no more rows than a round
        batch = f"batches of {limits.shown(min(batch_size, draws))} draws"
        limits.check_memory(batch, limits.product(size, min(batch_size, draws)), "lower data.batch_size")
    served = limits.product(steps_per_round, train_batch_size, 8)  # the order in which samples are served, int64
    limits.check_memory(
        f"steps of {limits.shown(train_batch_size)} samples",
        max(limits.product(size, train_batch_size), served),
        "lower data.train_batch_size or data.steps_per_round",
    )
    if folder is not None:
        states = f"the states of {limits.shown(draws)} draws at {levels + 1} levels"
        limits.check_disk(states, limits.product(size, draws, levels + 1), folder, "lower data.draws")
