"""The methods: each is settings on top of the user's configuration, or a way to draw with another method's weights.

A new one is an entry of `METHODS`, or a file of the user's: ``--methods pgraft,mine.yaml``.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from graft import files, plain_yaml
from graft.batches import Weights
from graft.best_of import best_of_n
from graft.commands import sample
from graft.compare.drawn import Drawn
from graft.errors import GraftError
from graft.module import GraftModule

PURPOSE = "test"  # of the samples that are judged: those of a run's own comparison
SPLIT = 8  # most rounds of an on-policy method for each of the configuration's

Prepare = Callable[[GraftModule, Path, float], None]
Draw = Callable[[GraftModule, Any, Any, float], Drawn]


def _whole(module: GraftModule, run: Path, value: float) -> None:
    """A run's weights as they are."""
    module.load_weights(run / "tuned.safetensors")


def _early(module: GraftModule, run: Path, value: float) -> None:
    """Those after an earlier round, counted from 1."""
    module.load_weights(run / "rounds" / str(int(value) - 1) / "tuned.safetensors")


def _mixed(module: GraftModule, run: Path, value: float) -> None:
    """Between the reference's and the run's."""
    module.load_weights(run / "tuned.safetensors")
    module.interpolate(value)


def _nothing(module: GraftModule, run: Path, value: float) -> None:
    """The reference's are there."""


def _plain(weights: Weights) -> Draw:
    def draw(module: GraftModule, data: Any, trainer: Any, value: float) -> Drawn:
        parts = sample(module, trainer, data.test_draws, PURPOSE, weights, data.batch_size)
        items = [item for part, _ in parts for item in part]
        return Drawn(items, None, 0, sum(calls for _, calls in parts))

    return draw


def _best(module: GraftModule, data: Any, trainer: Any, value: float) -> Drawn:
    """In chunks of as many conditions as everyone's, so that the conditions are everyone's."""
    each = int(value)
    rows = each * data.batch_size
    best = best_of_n(module, trainer, data.require_reward, data.test_draws, each, PURPOSE, "reference", rows)
    return Drawn(best.items, best.rewards, best.reward_calls, best.denoiser_calls)


@dataclass(frozen=True)
class Method:
    """How to get samples.

    Attributes:
        name: As asked for.
        about: In a few words.
        settings: Flags on top of the user's configuration and flags; ``--config`` is one of them.
        levels: At which of the levels asked for: ``each``, each ``above`` 0, ``zero`` alone; or its own: ``fixed``.
        weights: Whose it draws with: its ``own``, which takes training; those of ``graft``, or of the ``reference``.
        splits_rounds: Learns from its own draws, so that it has more and smaller rounds, with the same number of
            everything.
        load_weights: Puts the weights in their place.
        draw: The samples.
        parameter: What ``value`` is, which follows a colon: ``best_of:8``.
        value: The number; NaN where a rule says it.
        integer: It is a whole number of at least 1.
        config_key: The setting that it is.
        content: Of a user's file, hashed.
    """

    name: str
    about: str
    settings: tuple[str, ...] = ()
    levels: Literal["each", "above", "zero", "fixed"] = "each"
    weights: Literal["own", "graft", "reference"] = "own"
    splits_rounds: bool = False
    load_weights: Prepare = _whole
    draw: Draw = field(default_factory=lambda: _plain("tuned"))
    parameter: str = ""
    value: float = math.nan
    integer: bool = False
    config_key: str = ""
    content: str = ""

    @property
    def label(self) -> str:
        """The name, with the number if there is one."""
        return self.name if math.isnan(self.value) else f"{self.name}:{self.value:g}"

    @property
    def flags(self) -> list[str]:
        """All of its settings."""
        said = [self.config_key, f"{self.value:g}"] if self.config_key and not math.isnan(self.value) else []
        return [*self.settings, *said]


SHAPING = ("--model.objective", "graft.objectives.Shaping")
EVERYONE = ("--data.accept.deduplicate", "false", "--data.filters", "null")
ON_POLICY = (*EVERYONE, "--data.replay_rounds", "1")

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("reference", "the reference as it is", (), "fixed", "reference", False, _nothing, _plain("reference")),
        Method("graft", "GRAFT: the whole network learns the accepted samples", SHAPING, "zero"),
        Method("pgraft", "P-GRAFT: the accepted states at u*, the reference below", SHAPING, "above"),
        Method("switch", "the GRAFT network above u*, the reference below", SHAPING, "above", "graft"),
        Method(
            "graft_early",
            "the GRAFT weights after an earlier round, half of the rounds if not said (rounded down, at least 1)",
            SHAPING,
            "zero",
            "graft",
            load_weights=_early,
            parameter="ROUND",
            integer=True,
        ),
        Method(
            "interpolation",
            "weights W of the way from the reference's to GRAFT's",
            SHAPING,
            "zero",
            "graft",
            load_weights=_mixed,
            parameter="W",
            value=0.5,
        ),
        Method(
            "all",
            "training on all rollouts, whatever their reward",
            (*SHAPING, "--config", "accept/all.yaml", *EVERYONE),
        ),
        Method(
            "best_of",
            "the best of N draws of the reference, no training",
            (),
            "fixed",
            "reference",
            load_weights=_nothing,
            draw=_best,
            parameter="N",
            value=4,
            integer=True,
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
            "nft",
            "DiffusionNFT, K rounds for each of the configuration's",
            ("--config", "objective/diffusion_nft.yaml", *ON_POLICY),
            splits_rounds=True,
            parameter="K",
            integer=True,
        ),
        Method(
            "anchored",
            "GRAFT or P-GRAFT of accepted draws against all draws",
            ("--config", "objective/anchored.yaml"),
        ),
    )
}


def describe_methods() -> str:
    """The methods, a line each."""
    names = [name + (f"[:{method.parameter}]" if method.parameter else "") for name, method in METHODS.items()]
    return "\n".join(f"  {name:<20} {method.about}" for name, method in zip(names, METHODS.values(), strict=True))


def parse_method(asked: str) -> Method:
    """The method of that name, ``name:number`` or configuration file.

    Raises:
        GraftError: There is none, or the number is not one that it takes.
    """
    name, colon, number = asked.partition(":")
    if name in METHODS:
        method = METHODS[name]
        return dataclasses.replace(method, value=_number(method, asked, number)) if colon else method
    if Path(asked).suffix in (".yaml", ".yml"):
        return _file(asked)
    raise GraftError(
        f"there is no method {asked!r}: there are {', '.join(METHODS)}, and configuration files (mine.yaml)"
    )


def _number(method: Method, asked: str, number: str) -> float:
    if not method.parameter:
        raise GraftError(f"the method {method.name} takes no number, and {asked!r} gives one")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or (method.integer and (value < 1 or value != int(value))):
        kind = "a whole number of at least 1" if method.integer else "a finite number"
        raise GraftError(f"{asked!r} asks for {method.name}:{method.parameter} with {number!r}, but it is {kind}")
    return value


def _file(asked: str) -> Method:
    """A user's settings; a level among them is the method's."""
    path = files.find_file(asked)
    if path.stem in METHODS:
        raise GraftError(f"the method {asked} has the name of another one, {path.stem}: rename the file")
    try:
        content = plain_yaml.read(path) or {}
        model = content.get("model") or {}
        own = "level" in model or "level" in (model.get("init_args") or {})
    except AttributeError as error:
        raise GraftError(f"the method {asked} is no configuration: {error}") from None
    return Method(
        Path(asked).stem,
        f"the settings of {asked}",
        ("--config", str(path)),
        "fixed" if own else "each",
        content=files.sha256(path),
    )
