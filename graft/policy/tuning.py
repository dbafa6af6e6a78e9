"""Tuning: settings of the training of a policy's network."""

from dataclasses import dataclass

from graft.core import limits


@dataclass
class Tuning:
    """Settings of training that change samples through the weights alone.

    Args:
        ema_decay: Decay of the moving average of the trained weights. The averaged weights sample and are saved;
            ``null`` for no average.
        timestep_sampler: Mean and standard deviation of the logit of the levels that training samples, as shares of the
            way from ``level`` to ``upper_level`` (Esser et al. 2024, section 3.1). ``null``: levels are sampled evenly.
        compile: Compile the networks with torch.compile, which takes about a minute at the start. A string names
            another backend than inductor.
    """

    ema_decay: "float | None" = None
    timestep_sampler: "tuple[float, float] | None" = None
    compile: "bool | str" = False

    def check(self) -> None:
        """Raise GraftError if a setting is outside its range."""
        limits.check("model.tuning.ema_decay", self.ema_decay, 0, 1, below=True)
        if self.timestep_sampler is not None:
            mean, deviation = self.timestep_sampler
            most = limits.MOST_LOGIT
            limits.check("the mean of model.tuning.timestep_sampler", mean, -most, most)
            limits.check("the spread of model.tuning.timestep_sampler", deviation, 0, most, above=True)


TUNING = Tuning()
"""Default settings."""
