"""The interface of a process: forward noising and one step back; no trainable parameters."""

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor

from graft.core.recorded_arguments import Described
from graft.core.state import Condition, State, fields_of, size
from graft.errors import GraftError
from graft.process.arguments import Level, Model, NoisyExample
from graft.process.output import check_output


class Process(Described, ABC):
    """A forward process on the clock u in [0, 1], 0 = data, 1 = prior, and one step back.

    A subclass defines how a state is noised (`prior`, `noise`, `corrupt_given_noise`), how a step uses the network's
    output (`denoise_step`), and the loss of an output (`output_loss`). `__call__` and `loss` call the network, so a
    process of several fields calls it once.
    """

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Return True if a step draws noise."""

    @property
    @abstractmethod
    def invertible(self) -> bool:
        """Return True if a step can be inverted, from ``next_level`` up to ``level``."""

    @abstractmethod
    def reverses_in_distribution(self, level: float) -> bool:
        """Return True if sampling from ``level`` to 0 reverses the forward process in distribution.

        Then x_level given the final x_0 follows the forward kernel.
        """

    @abstractmethod
    def time(self, level: Level) -> Tensor:
        """Return the process's own time t at ``level``, float64, of the level's shape."""

    @abstractmethod
    def log_snr(self, level: Level) -> Tensor:
        """Return log(alpha² / sigma²) at ``level`` in nats, float64, of the level's shape."""

    @abstractmethod
    def timestep(self, level: Level) -> Tensor:
        """Return the network's time input at ``level``: a scalar, or (B,)."""

    @abstractmethod
    def prior(self, condition: Condition, generator: "Generator | None" = None) -> State:
        """Sample states (B, ...) at level 1, one for each row of ``condition``."""

    def corrupt(
        self,
        state: State,
        level: Level,
        from_level: Level = 0.0,
        condition: "Condition | None" = None,
        generator: "Generator | None" = None,
    ) -> State:
        """Sample x_level ~ q( · | x_from_level = ``state``), the forward kernel between two levels."""
        return self.corrupt_given_noise(state, self.noise(state, condition, generator), level, from_level)

    @abstractmethod
    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> State:
        """Sample the random numbers that one `corrupt` of ``state`` uses."""

    @abstractmethod
    def corrupt_given_noise(self, state: State, noise: State, level: Level, from_level: Level) -> State:
        """Return the result of `corrupt` for ``state`` at level ``from_level`` with the given ``noise``."""

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
        """Return the state at ``next_level < level``, from the network's ``output`` at ``level``."""

    @abstractmethod
    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> State:
        """Return the x at ``level`` that `denoise_step` with ``output`` turns into ``state``.

        ``state`` is at ``next_level < level``. This is one evaluation of the fixed-point map that inversion solves. It
        needs `invertible`.
        """

    @abstractmethod
    def output_loss(self, output: State, example: NoisyExample, condition: Condition) -> Tensor:
        """Return the (B,) `loss` of the network's ``output`` at ``example.noisy``."""

    @property
    def why_not_invertible(self) -> str:
        """Return the reason why steps cannot be inverted, and an action.

        In messages the text follows the name of the process.
        """
        return "draws noise in its steps, so they cannot be inverted: use eta=0"

    # Solvers of higher order need these methods; a process without an ODE raises.

    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> State:
        """Return the slope at ``state`` of the ODE of deterministic sampling.

        The slope is computed from the network's ``output``, in the coordinates in which `ode_step` moves along straight
        lines.

        Raises:
            GraftError: There is no ODE, or its slope is not known at that level.
        """
        raise self._no_ode()

    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> State:
        """Return ``state`` moved from ``level`` to ``next_level``, up or down, along ``slope``.

        With the slope at ``state`` and ``next_level < level`` it is the deterministic `denoise_step`.

        Raises:
            GraftError: There is no ODE.
        """
        raise self._no_ode()

    def ode_time(self, level: Level) -> Tensor:
        """Return the ODE's time variable, in which `ode_step` is straight: float64, level's shape.

        Raises:
            GraftError: There is no ODE.
        """
        raise self._no_ode()

    # Policy gradients and the choice of the level need these methods; a process without them raises.

    @property
    def has_log_prob(self) -> bool:
        """Return True if a step above level 0 has a density: it draws noise for every part."""
        return False

    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the (B,) log density in nats of a `denoise_step` from ``state`` to ``next_state``.

        ``output`` is the network's output for ``state``. The density is on the subspace in which states live. Each
        level is one number or (B,).

        Raises:
            GraftError: The step has no density.
        """
        raise GraftError(f"the steps of {type(self).__name__} have no log-probability")

    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the (B,) KL(p‖q) in nats of a `denoise_step`: p has the network's ``output``, q has ``other``.

        Raises:
            GraftError: The step has no density.
        """
        raise GraftError(f"the steps of {type(self).__name__} have no log-probability")

    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        """Return the estimate of E[x_0 | x_level = ``state``] from the network's ``output``.

        Raises:
            GraftError: The outputs stand for no estimate.
        """
        raise GraftError(f"the outputs of {type(self).__name__} stand for no estimates of x_0")

    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        """Return the (B,) squared distance of the score at ``level`` from the prior's score.

        The distance is taken at ``state``, in 1 / (unit of the state)². Its mean over the distribution at ``level``
        says how much of that distribution there is to learn.

        Args:
            estimate: E[x_0 | x_level = ``state``], from which Tweedie's formula gives the score.
            state: Draws of the distribution at ``level``.
            level: Level above 0; data have no score.
            condition: Condition of each draw.

        Raises:
            GraftError: The process has no score.
        """
        raise GraftError(f"{type(self).__name__} has no score, so levels cannot be compared")

    # Objectives that compare outputs need these methods: `output_loss` on data as a squared distance.

    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        """Return ``output`` in the space in which the loss is a squared distance.

        The space is that of the prediction (eps, v, velocity, x_0), or of the mean of x_0 for logits. An average of
        several outputs in it is the average of their estimates of x_0.

        Raises:
            GraftError: The process has no such space.
        """
        raise self._no_loss_space()

    def loss_target(self, clean: State, noise: State, level: Level) -> State:
        """Return the `loss_output` of a network that knows the data and the noise of a state.

        Args:
            clean: Data x_0, (B, ...).
            noise: Result of `noise`, with which `corrupt_given_noise` made the state at ``level``.
            level: Level of the state.

        Raises:
            GraftError: The process has no such space.
        """
        raise self._no_loss_space()

    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """Return the (B,) weighted mean squared difference of two `loss_output`s.

        The second one may be the `loss_target` of the first.

        Raises:
            GraftError: The process has no such space.
        """
        raise self._no_loss_space()

    def __call__(self, model: Model, state: State, level: Level, condition: Condition) -> State:
        """Return the network's output at ``level``.

        Raises:
            GraftError: The output does not have the state's shape.
        """
        time, like = torch.as_tensor(self.timestep(level)), fields_of(state)[0]
        if time.ndim == 0 and time.device.type == "cpu":  # made on the GPU, since a copy would wait for it
            time = like.new_full((), float(time), dtype=torch.float32)
        else:
            time = time.to(like.device, torch.float32)
        return check_output(model(state, time.expand(size(state)), condition), state)

    def loss(
        self,
        model: Model,
        state: State,
        level: Tensor,
        from_level: "Tensor | float",
        condition: Condition,
        target: "State | None" = None,
        generator: "Generator | None" = None,
    ) -> Tensor:
        """Return the (B,) denoising loss of each sample.

        Args:
            model: Network.
            state: x_from, (B, ...): samples of the distribution to be learned, at level ``from_level``.
            level: Levels u >= from_level at which the network is evaluated, (B,).
            from_level: Level of ``state`` (0 for data), one number or (B,).
            condition: Condition of each sample, an input of the network.
            target: None for target (a), the noise between x_from and x_u, weighted by its share of the total. It is
                right for any distribution of x_from. Or the trajectories' own x_0 for target (b), which is right only
                where x_from given x_0 follows the forward kernel (`reverses_in_distribution`). The two agree for
                from_level = 0.
            generator: Generator of the noise.
        """
        from_level = torch.as_tensor(from_level, dtype=torch.float64, device=level.device).expand(level.shape)
        noise = self.noise(state, condition, generator)
        noisy = self.corrupt_given_noise(state, noise, level, from_level)
        output = self(model, noisy, level, condition)
        return self.output_loss(output, NoisyExample(noisy, state, noise, level, from_level, target), condition)

    def _no_ode(self) -> GraftError:
        return GraftError(f"{type(self).__name__} has no ODE, which solvers of higher order need: use the Euler solver")

    def _no_loss_space(self) -> GraftError:
        return GraftError(f"the outputs of {type(self).__name__} cannot be mixed: they are not predictions")
