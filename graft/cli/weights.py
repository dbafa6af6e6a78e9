"""Commands that sample a run's weights: their flags and their model."""

from pathlib import Path
from typing import Any

from graft import runs
from graft.cli.parser import parse_and_build
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.tensors import read_tensors
from graft.pretrained.header import architecture, trusted_config

NUMBERS = ("draws", "batch_size", "test_draws", "validation_draws")
"""Numbers in the settings of a run's data that say how its rounds are stored."""


def add_flags(parser: Any, number: int) -> None:
    """Add the flags of a command that samples a run's weights, with a default number of objects."""
    parser.add_argument("--weights", type=str, required=True, help="A run's folder, or its weights file.")
    parser.add_argument("-n", "--number", type=int, default=number, help="Number of objects.")
    needed = parser.prog != "graft evaluate"
    kind = str if needed else str | None
    parser.add_argument("--out", type=kind, required=needed, help="Output file; its suffix sets the format.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the draws.")
    parser.add_argument("--level", type=float | None, help="Level of the hand-over to the reference.")
    parser.add_argument("--steps", type=int | None, help="Steps of the sampler instead of the run's.")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="Build the model and the reward of config.yaml in the run's folder: for runs of your own only.",
    )
    parser.add_argument("--data.reward", dest="reward", type=str | None, help="Reward, as in graft fit.")
    if not needed:
        return
    parser.add_argument(
        "--postprocess",
        action="store_true",
        help="Clean the objects (relax molecules' conformers), and score them again where there are scores.",
    )


def check_output_suffix(model: Any, path: Path, *more: str) -> None:
    """Raise GraftError if the domain cannot write a file of this suffix.

    Args:
        model: Model of the domain.
        path: File to write.
        *more: Suffixes that the command writes itself.
    """
    known = [*dict.fromkeys([*model.file_suffixes, *more])]
    if model.file_suffixes and path.suffix.lower() not in known:
        names = ", ".join(each or "no suffix (a folder)" for each in known)
        raise GraftError(f"{type(model).__name__} cannot be written to {path}: its name must end in {names}")


def load_run(flags: Any, given: dict[str, Any], by_reward: str) -> Any:
    """Return the built command of a run, with its weights, and with its data where a reward is needed.

    The weights file describes the model alone, because it may come from another person. A reward comes from the
    configuration of the run's folder with ``--trust``, or from ``--data.reward``.

    Args:
        flags: Flags of `add_flags`.
        given: Settings of the model that replace the run's.
        by_reward: Words for the message about a missing reward; empty if no reward is needed.

    Raises:
        GraftError: The file names a class that does not belong in a model, or a needed reward is missing.
    """
    path = runs.find_weights(flags.weights)
    _, about = read_tensors(path)
    if flags.trust:
        names = [*(f"model.{name}" for name in given), *(["data.reward"] if flags.reward is not None else [])]
        config = trusted_config(flags.weights, path, about, names, bool(by_reward))
    else:
        config = {"model": architecture(path, about, given)}
    model = config["model"]
    model["init_args"] = dict(model.get("init_args") or {})
    model["init_args"] |= {k: v for k, v in {"level": flags.level, "steps": flags.steps}.items() if v is not None}
    model["init_args"].pop("compile", None)  # compiling takes a minute, so it needs a flag of this command
    model["init_args"] |= given
    settings = {"seed_everything": flags.seed, "model": model}
    command = "predict" if by_reward else "sample"
    if by_reward:
        settings["data"] = _data(path, flags, config.get("data"), by_reward)
    cli, _ = parse_and_build(command, settings)
    cli.model.load_weights(path)
    return cli


def _data(path: Path, flags: Any, kept_data: Any, by_reward: str) -> dict[str, Any]:
    """Return the settings of the data: those of a trusted run, or the reward of the command line alone."""
    data: dict[str, Any] = dict(kept_data) if isinstance(kept_data, dict) else {}
    if flags.reward is None and not data.get("reward"):
        folder = Path(flags.weights)
        own = f", or add --trust to take that of {folder}" if folder.is_dir() and not flags.trust else ""
        raise GraftError(
            f"{path} has no reward, by which {by_reward}: name one with --data.reward package.module.function{own}"
        )
    if flags.reward is not None:
        numbers = {name: data[name] for name in NUMBERS if name in data}
        if not numbers and (config := Path(flags.weights) / "config.yaml").is_file():
            content = yaml_files.read_yaml(config)
            theirs = content.get("data") if isinstance(content, dict) else None
            theirs = theirs if isinstance(theirs, dict) else {}
            numbers = {k: v for k, v in theirs.items() if k in NUMBERS and type(v) is int}
        data = {**data, **numbers, "reward": yaml_files.parse_yaml(flags.reward, "the value of --data.reward")}
    return data
