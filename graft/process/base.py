"""Process: the forward noising and one reverse step of it; no trainable parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from scipy.optimize import brentq
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.process.output import checked
from graft.recorded_arguments import Described
from graft.state import Condition, State, size

Level: TypeAlias = "float | Tensor"  # u in [0, 1]: one for the batch, or one for each sample
Model: TypeAlias = Callable[[State, Tensor, Condition], State]  # (state, network time (B,), condition) -> output


class Process(Described, ABC):
    """A forward process on the clock u in [0, 1] (0 = data, 1 = prior) and one step back along it.

    A subclass says how a state is noised (`prior`, `corrupt`), what one step does with the network's output (`advance`)
    and how wrong an output is (`error`). Everything that calls the network is here, so that a process made of several
    (`MultiFieldProcess`) calls it once.
    """

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """The step draws noise."""

    @property
    @abstractmethod
    def invertible(self) -> bool:
        """The step can be undone (``next_level > level`` in `step`)."""

    @property
    @abstractmethod
    def reverses_in_law(self) -> bool:
        """Sampling reverses the forward process in law, so that x_u given the final x_0 follows its kernel."""

    @abstractmethod
    def time(self, level: Level) -> Tensor:
        """The process's own time t at ``level``, float64, of the level's shape."""

    @abstractmethod
    def log_snr(self, level: Level) -> Tensor:
        """log(alpha² / sigma²) at ``level``, in nats, float64, of the level's shape."""

    @abstractmethod
    def timestep(self, level: Level) -> Tensor:
        """What the network is told at ``level``: a scalar, or (B,)."""

    @abstractmethod
    def prior(self, condition: Condition, generator: "Generator | None" = None) -> State:
        """Draw states at level 1, one for each row of ``condition``."""

    @abstractmethod
    def corrupt(
        self,
        state: State,
        level: Level,
        from_level: Level = 0.0,
        condition: "Condition | None" = None,
        generator: "Generator | None" = None,
    ) -> State:
        """Draw x_level ~ q( · | x_since = ``state``), the forward kernel between two levels."""

    @abstractmethod
    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> State:
        """The randomness that one `corrupt` of ``state`` uses."""

    @abstractmethod
    def corrupt_given_noise(self, state: State, noise: State, level: Level, since: Level) -> State:
        """`corrupt` with its randomness given."""

    @abstractmethod
    def denoise_step(
        self,
        output: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None",
    ) -> State:
        """The state at ``next_level < level`` from the network's ``output`` at ``level``."""

    @abstractmethod
    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> State:
        """The state at ``level`` of which `advance` makes ``state`` at ``next_level``, were the output ``output``.

        One evaluation of the fixed-point map that inversion solves; only where `reversible`.
        """

    @abstractmethod
    def output_loss(
        self,
        output: State,
        noisy: State,
        state: State,
        noise: State,
        level: Tensor,
        since: Tensor,
        target: "State | None",
        condition: Condition,
    ) -> Tensor:
        """(B,) loss of ``output`` at ``noisy`` = corrupt_with(state, noise, level, since); see `loss`."""

    @property
    def why_not_invertible(self) -> str:
        """Why steps cannot be inverted, and what to do, after the name of the process."""
        return "draws noise in its steps, so they cannot be inverted: use eta=0"

    # What solvers of higher order need; a process that has no such thing says so

    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> State:
        """The direction at ``state`` of the ODE that deterministic sampling solves, from the network's ``output``.

        In the coordinates in which `follow` moves along straight lines.

        Raises:
            GraftError: There is no ODE, or its direction is not known at that level.
        """
        raise GraftError(f"{type(self).__name__} has no ODE, which solvers of higher order need: use the Euler solver")

    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> State:
        """``state`` moved from ``level`` to ``next_level``, up or down, along ``slope``.

        With the slope at ``state`` and ``next_level < level`` it is the deterministic `advance`.
        """
        raise GraftError(f"{type(self).__name__} has no ODE, which solvers of higher order need: use the Euler solver")

    def ode_time(self, level: Level) -> Tensor:
        """Return the time variable of the ODE, in which `follow` is straight: float64, of the level's shape.

        Raises:
            GraftError: There is no ODE.
        """
        raise GraftError(f"{type(self).__name__} has no ODE, which solvers of higher order need: use the Euler solver")

    def second_slope(self, level: float, next_level: float, share: float) -> tuple[float, State]:
        r"""Return the level at which a step takes its second slope, and the weight of that slope.

        The level is the one at which ``share`` of the step is done in the ODE's time variable; it is found numerically
        (Brent 1973), for any schedule. The mean slope of the step is :math:`(1 - w) k_1 + w k_2`, see `second_weight`.

        Args:
            level: Where the step begins.
            next_level: Where it ends.
            share: In (0, 1].

        Returns:
            The level, and w: a number for each field of the state, float64.

        Raises:
            GraftError: There is no ODE.
        """
        start, end = (float(self.ode_time(u)) for u in (level, next_level))
        between = next_level
        if share < 1 and start != end:
            target = start + share * (end - start)
            between = float(brentq(lambda u: float(self.ode_time(u)) - target, next_level, level, xtol=1e-15))
        return between, self.second_weight(level, between, next_level)

    def second_weight(self, level: float, between: float, next_level: float) -> State:
        r"""Return the weight w of the slope at ``between`` in the mean slope of a step, float64.

        .. math:: w = 1 / (2a)

        with a the share of the step that the ODE's time variable has covered at ``between``: the order condition of
        two-stage Runge-Kutta methods (Hairer et al. 1993, section II.1).

        Raises:
            GraftError: There is no ODE.
        """
        start, middle, end = (self.ode_time(u) for u in (level, between, next_level))
        moved = middle - start
        return torch.where(moved == 0, 0.0, (end - start) / (2 * moved))  # 0 where nothing moves

    # What policy gradients and regressions on estimates need; a process that has no such thing says so

    @property
    def has_log_prob(self) -> bool:
        """A step above level 0 has a density: every part of the state draws noise in it."""
        return False

    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """(B,) log density of the step from ``state`` to ``next_state``, as `advance` makes it of ``output``.

        In nats, on the subspace in which states live; levels are one for the batch or one for each sample.
        """
        raise GraftError(f"the steps of {type(self).__name__} have no log-probability")

    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """(B,) KL divergence in nats of the step that `denoise_step` makes of ``output`` from the one of ``other``."""
        raise GraftError(f"the steps of {type(self).__name__} have no log-probability")

    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        """The estimate of E[x_0 | x_level = ``state``] that the network's ``output`` stands for.

        Raises:
            GraftError: The process has none.
        """
        raise GraftError(f"the outputs of {type(self).__name__} stand for no estimates of x_0")

    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        """(B,) squared distance at ``state`` of the score of the law at ``level`` from that of the prior's Gaussian.

        Its mean says how much of the law at ``level`` there is to learn; in 1 / (unit of the state)².

        Args:
            estimate: E[x_0 | x_level = ``state``], which says the score (Tweedie's formula).
            state: Draws of the law at ``level``.
            level: Above 0: data have no score.
            condition: What is given.

        Raises:
            GraftError: The process has no score.
        """
        raise GraftError(f"{type(self).__name__} has no score, so levels cannot be compared")

    # What objectives need that compare outputs: `error` of data as a squared distance in a space of its own

    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        """Return the network's ``output`` for ``state`` in the space in which the loss is a squared distance.

        That is the prediction itself (eps, v, velocity, x_0), or the mean of x_0 that logits stand for. Averages of
        several outputs in it are averages of their estimates of x_0.

        Raises:
            GraftError: The process has no such space.
        """
        raise GraftError(f"the outputs of {type(self).__name__} are no predictions that could be mixed")

    def loss_target(self, clean: State, noise: State, level: Level) -> State:
        """Return what a perfect network's `loss_output` would be if it knew the data and the noise of a state.

        Args:
            clean: (B, ...) the data, x_0.
            noise: (B, ...) as `noise` has it, with which `corrupt_given_noise` made the state at ``level``.
            level: Of the state.

        Raises:
            GraftError: The process has no such space.
        """
        raise GraftError(f"the outputs of {type(self).__name__} are no predictions that could be mixed")

    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """Return the (B,) weighted mean squared difference of two `loss_output`s, or of one and its `loss_target`.

        Raises:
            GraftError: The process has no such space.
        """
        raise GraftError(f"the outputs of {type(self).__name__} are no predictions that could be mixed")

    def __call__(self, model: Model, state: State, level: Level, condition: Condition) -> State:
        """The network's output at ``level``.

        Raises:
            GraftError: The output has not the state's shape.
        """
        time = torch.as_tensor(self.timestep(level))
        device = (state if isinstance(state, Tensor) else next(iter(state.values()))).device
        return checked(model(state, time.to(device, torch.float32).expand(size(state)), condition), state)

    def loss(
        self,
        model: Model,
        state: State,
        level: Tensor,
        since: "Tensor | float",
        condition: Condition,
        target: "State | None" = None,
        generator: "Generator | None" = None,
    ) -> Tensor:
        """Denoising loss of each sample, (B,).

        Args:
            model: The network.
            state: x_since, (B, ...): samples of the law that is to be learned at level ``since``.
            level: (B,) the levels u >= since at which the network is asked.
            since: The level of ``state`` (0 for data), a number or (B,).
            condition: What is given to the network.
            target: None for target (a), the noise between x_since and x_u weighted by its share of the total, which is
                right whatever made x_since; the trajectories' own x_0 for target (b), right only where x_since given
                x_0 follows the forward kernel (`consistent`). With since = 0 the two are one.
            generator: For the noise.
        """
        since = torch.as_tensor(since, dtype=torch.float64, device=level.device).expand(level.shape)
        noise = self.noise(state, condition, generator)
        noisy = self.corrupt_given_noise(state, noise, level, since)
        output = self(model, noisy, level, condition)
        return self.output_loss(output, noisy, state, noise, level, since, target, condition)

    def step(
        self,
        model: Model,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None" = None,
    ) -> State:
        """One step from ``level`` to ``next_level``; upwards (``next_level > level``) it inverts the step down.

        Raises:
            InversionError: The step is stochastic, or its fixed point was not found.
        """
        if next_level <= level:
            return self.denoise_step(
                self(model, state, level, condition), state, level, next_level, condition, generator
            )
        from graft.solvers.euler import Euler

        return Euler().step(self, model, state, level, next_level, condition, generator)
