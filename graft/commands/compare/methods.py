"""The methods that can be compared: settings on top of the user's configuration, or a way to sample.

A new method is an entry of `METHODS`, or a configuration file: ``--methods pgraft,mine.yaml``.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from graft.commands import sample_chunks
from graft.commands.compare.best_of import best_of_n
from graft.core.datatypes import Weights
from graft.errors import GraftError
from graft.evaluation.samples import Samples
from graft.io import yaml_files
from graft.io.checksum import file_checksum
from graft.io.paths import find_file
from graft.module import GraftModule

PURPOSE = "test"
"""Purpose that seeds the evaluated samples; the final comparison of a run has the same."""
SPLIT = 8
"""Largest number of rounds of an on-policy method for each round of the configuration."""

LoadWeights = Callable[[GraftModule, Path, float], None]
"""Function of the module, the run's folder and the method's number that loads the weights."""
Sample = Callable[[GraftModule, Any, Any, float], Samples]
"""Function of the module, the data, the trainer and the method's number that returns samples."""


def _load_final(module: GraftModule, run: Path, value: float) -> None:
    """Load the final weights of a run."""
    module.load_weights(run / "tuned.safetensors")


def load_early(module: GraftModule, run: Path, value: float) -> None:
    """Load the weights of a run after round ``value``, counted from 1."""
    module.load_weights(run / "rounds" / str(int(value) - 1) / "tuned.safetensors")


def _load_interpolated(module: GraftModule, run: Path, value: float) -> None:
    """Load weights between the reference's weights (``value`` 0) and those of the run (1)."""
    module.load_weights(run / "tuned.safetensors")
    module.interpolate(value)


def _load_nothing(module: GraftModule, run: Path, value: float) -> None:
    """Keep the reference's weights, which the module has already."""


def _sample_with(weights: Weights) -> Sample:
    def sample_plainly(module: GraftModule, data: Any, trainer: Any, value: float) -> Samples:
        parts = sample_chunks(module, trainer, data.evaluation.test_draws, PURPOSE, weights, data.batch_size)
        items = [item for part, _ in parts for item in part]
        return Samples(items, denoiser_calls=sum(calls for _, calls in parts))

    return sample_plainly


def _sample_best(module: GraftModule, data: Any, trainer: Any, value: float) -> Samples:
    """Sample the best of ``value`` candidates.

    A batch has as many conditions as the batches of other methods, so that all methods have the same conditions.
    """
    each = int(value)
    rows = each * data.batch_size
    return best_of_n(
        module, trainer, data.rounds.require_reward, data.evaluation.test_draws, each, PURPOSE, "reference", rows
    )


@dataclass(frozen=True)
class Method:
    """A way to get samples.

    Attributes:
        name: Name on the command line.
        about: Description in a few words.
        settings: Flags on top of the user's configuration and flags; ``--config`` is one of them.
        levels: Levels of the method among the given levels: ``each`` level, each level ``above`` 0, or ``zero`` alone.
            ``fixed``: the method takes no given level.
        weights: Weights that sample: the method's ``own`` weights, which take training, the weights of ``graft``, or
            the weights of the ``reference``.
        splits_rounds: True for an on-policy method, which has more and smaller rounds with the same number of
            draws, reward calls and optimizer steps in all.
        load_weights: Loads the weights of a run.
        sample: Returns the samples.
        parameter: Meaning of ``value``, which follows a colon: ``best_of:8``.
        value: Number of the method; NaN if a rule sets it.
        integer: True if ``value`` must be a whole number of at least 1.
        config_key: Flag of the setting that ``value`` sets.
        content: Checksum of the configuration file of a user's method.
        path: Name of the path on which the method with other numbers lies; its own label if empty.
    """

    name: str
    about: str
    settings: tuple[str, ...] = ()
    levels: Literal["each", "above", "zero", "fixed"] = "each"
    weights: Literal["own", "graft", "reference"] = "own"
    splits_rounds: bool = False
    load_weights: LoadWeights = _load_final
    sample: Sample = field(default_factory=lambda: _sample_with("tuned"))
    parameter: str = ""
    value: float = math.nan
    integer: bool = False
    config_key: str = ""
    content: str = ""
    path: str = ""

    @property
    def label(self) -> str:
        """Name with the number, if there is one: ``best_of:8``."""
        return self.name if math.isnan(self.value) else f"{self.name}:{self.value:g}"

    @property
    def flags(self) -> list[str]:
        """All flags of the method."""
        number = [self.config_key, f"{self.value:g}"] if self.config_key and not math.isnan(self.value) else []
        return [*self.settings, *number]


SHAPING = ("--model.objective", "graft.objectives.Shaping")
ALL_DRAWS = ("--data.accept.deduplicate", "false", "--data.filters", "null")
ON_POLICY = (*ALL_DRAWS, "--data.replay_rounds", "1")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "reference",
            "the reference as it is",
            levels="fixed",
            weights="reference",
            load_weights=_load_nothing,
            sample=_sample_with("reference"),
        ),
        Method("graft", "GRAFT: the whole network learns the accepted samples", SHAPING, "zero"),
        Method("pgraft", "P-GRAFT: the accepted states at u*, the reference below", SHAPING, "above"),
        Method("switch", "the GRAFT network above u*, the reference below", SHAPING, "above", "graft"),
        Method(
            "graft_early",
            "the GRAFT weights after an earlier round, half of the rounds if not given (rounded down, at least 1)",
            SHAPING,
            "zero",
            "graft",
            load_weights=load_early,
            parameter="ROUND",
            integer=True,
            path="graft",
        ),
        Method(
            "interpolation",
            "weights W of the way from the reference's to GRAFT's",
            SHAPING,
            "zero",
            "graft",
            load_weights=_load_interpolated,
            parameter="W",
            value=0.5,
            path="interpolation",
        ),
        Method(
            "all",
            "training on all rollouts, whatever their reward",
            (*SHAPING, "--config", "accept/all.yaml", *ALL_DRAWS),
        ),
        Method(
            "best_of",
            "the best of N draws of the reference, no training",
            (),
            "fixed",
            "reference",
            load_weights=_load_nothing,
            sample=_sample_best,
            parameter="N",
            value=4,
            integer=True,
            path="best_of",
        ),
        Method(
            "rwr",
            "reward-weighted regression at level 0",
            ("--config", "objective/reward_weighted.yaml", *ON_POLICY),
            "zero",
            parameter="TEMPERATURE",
            config_key="--data.accept.temperature",
        ),
        Method(
            "ddpo",
            "a clipped policy gradient, K rounds for each of the configuration's",
            ("--config", "objective/policy_gradient.yaml", *ON_POLICY),
            splits_rounds=True,
            parameter="K",
            integer=True,
        ),
        Method(
            "shared_prefix",
            "DDPO of the last steps, for draws that share the first ones (Elign), K rounds for each round",
            ("--config", "objective/shared_prefix.yaml", *ON_POLICY),
            "zero",
            splits_rounds=True,
            parameter="K",
            integer=True,
        ),
        Method(
            "nft",
            "DiffusionNFT, K rounds for each of the configuration's",
            ("--config", "objective/diffusion_nft.yaml", *ON_POLICY),
            splits_rounds=True,
            parameter="K",
            integer=True,
        ),
        Method(
            "anchored",
            "GRAFT or P-GRAFT of accepted draws against all draws, SCALE times the contrast",
            ("--config", "objective/anchored.yaml"),
            parameter="SCALE",
            config_key="--model.objective.init_args.contrast_scale",
        ),
    )
}


def describe_methods() -> str:
    """Return a list of the methods as text, one line each."""
    names = [name + (f"[:{method.parameter}]" if method.parameter else "") for name, method in METHODS.items()]
    return "\n".join(f"  {name:<20} {method.about}" for name, method in zip(names, METHODS.values(), strict=True))


def parse_method(text: str) -> Method:
    """Return the method of a name, of ``name:number``, or of a configuration file.

    Raises:
        GraftError: There is no such method, or the method does not take the number.
    """
    name, colon, number = text.partition(":")
    if name in METHODS:
        method = METHODS[name]
        return dataclasses.replace(method, value=_number(method, text, number)) if colon else method
    if Path(text).suffix in (".yaml", ".yml"):
        return _file(text)
    raise GraftError(
        f"there is no method {text!r}; a method is one of {', '.join(METHODS)}, or a configuration file (mine.yaml)"
    )


def _number(method: Method, text: str, number: str) -> float:
    if not method.parameter:
        raise GraftError(f"the method {method.name} takes no number, and {text!r} gives one. Remove the number.")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (method.integer and (value < 1 or value != int(value))):
        kind = "a whole number of at least 1" if method.integer else "a finite number"
        raise GraftError(f"{method.parameter} of {text!r} is {number!r}; it must be {kind}")
    return value


def _file(text: str) -> Method:
    """Return the method of a configuration file.

    The method has a fixed level if the file sets one, or a corrector.
    """
    path = find_file(text)
    if path.stem in METHODS:
        raise GraftError(f"the method {text} has the name of a built-in method, {path.stem}. Rename the file.")
    try:
        content = yaml_files.read_yaml(path) or {}
        model = content.get("model") or {}
        own = {"level", "corrector"} & {*model, *(model.get("init_args") or {})}
    except AttributeError as error:
        raise GraftError(f"the method {text} is not a configuration: {error}") from None
    return Method(
        Path(text).stem,
        f"the settings of {text}",
        ("--config", str(path)),
        "fixed" if own else "each",
        content=file_checksum(path),
    )
