"""Raise GraftError for samples and steps that exceed memory, disk or a year of time."""

from torch import Tensor

from graft.core import limits, seeding
from graft.domain import Domain
from graft.policy import Policy
from graft.rounds.settings import RoundSettings


def state_bytes(domain: Domain, policy: Policy) -> int:
    """Return the number of bytes of the state of one sample."""
    generator = seeding.make_generator(0, "size")
    condition = domain.conditions_for(("size",), 0, 1, generator)
    state = policy.process.prior(condition, generator)
    fields = [state] if isinstance(state, Tensor) else list(state.values())
    return sum(field.numel() * field.element_size() for field in fields)


def check_sampling(domain: Domain, policy: Policy, name: str, count: int, times: int = 1) -> None:
    """Raise GraftError if this machine cannot generate or hold a number of samples.

    Args:
        domain: The domain that samples the conditions.
        policy: The policy that samples the states.
        name: Setting with the number of samples, for the message.
        count: Number of samples in memory at a time.
        times: Number of times that ``count`` samples are generated.
    """
    samples, remedy = f"{limits.shown(count)} samples ({name})", "take fewer"
    calls = limits.product(count, times, policy.denoiser_calls("tuned"))
    limits.check_time(samples, calls * limits.FASTEST_CALL, remedy)
    limits.check_memory(samples, limits.product(count, state_bytes(domain, policy)), remedy)


def check_rounds(
    domain: Domain, policy: Policy, settings: RoundSettings, rounds: int, train_batch_size: int, steps: int
) -> None:
    """Raise GraftError if this machine cannot run a number of rounds.

    Args:
        domain: The domain that samples the conditions.
        policy: The policy that samples the states.
        settings: The settings of the rounds.
        rounds: Number of rounds.
        train_batch_size: Number of samples in an optimizer step.
        steps: Number of optimizer steps in a round.
    """
    size, draws = state_bytes(domain, policy), settings.draws if settings.source.is_model else 0
    calls = limits.product(draws, rounds, policy.denoiser_calls("tuned"))
    limits.check_time(
        f"{limits.shown(rounds)} rounds of {limits.shown(draws)} draws",
        calls * limits.FASTEST_CALL,
        "lower data.draws or trainer.max_epochs",
    )
    limits.check_time(
        f"{limits.shown(rounds)} rounds of {limits.shown(steps)} optimizer steps",
        limits.product(steps, rounds) * limits.FASTEST_STEP,
        "lower data.steps_per_round or trainer.max_epochs",
    )
    if draws:  # a batch has no more rows than a round
        rows = min(settings.batch_size, draws)
        limits.check_memory(
            f"batches of {limits.shown(rows)} draws", limits.product(size, rows), "lower data.batch_size"
        )
    served = limits.product(steps, train_batch_size, 8)  # the order in which samples are served, int64
    limits.check_memory(
        f"steps of {limits.shown(train_batch_size)} samples",
        max(limits.product(size, train_batch_size), served),
        "lower data.train_batch_size or data.steps_per_round",
    )
    if settings.run_dir is not None:
        levels = len(settings.record_levels) + 2  # those of the user, the final state and that of the objective
        states = f"the states of {limits.shown(draws)} draws at {levels} levels"
        limits.check_disk(states, limits.product(size, draws, levels), settings.run_dir, "lower data.draws")
