"""The run that a command begins or goes on with."""

from pathlib import Path
from typing import Any, NamedTuple

from graft import ranks, runs
from graft.cli.configs import config_name
from graft.cli.parser import setup
from graft.runs.kept import whole


class Run(NamedTuple):
    """What a command works with."""

    cli: Any  # .model, .datamodule, .trainer
    config: str  # as YAML
    folder: Path
    checkpoint: Path | None  # to go on from


def begun(command: str, args: list[str], suffix: str = "") -> Run:
    """Parse and build, with the weights asked for; the folder is the same on every process.

    Args:
        command: Of the command line.
        args: Its arguments.
        suffix: Of the folder's name, after the configuration's.
    """
    cli, config = setup(command, args)
    warm(cli)
    return placed(cli, config, config_name(args) + suffix)


def placed(cli: Any, config: str, name: str) -> Run:
    """The run of what was parsed and built, in a folder of this name unless the command line says which."""
    ranks.begin(cli.trainer, cli.model)
    found = ranks.first(
        cli.trainer,
        lambda: runs.choose(
            cli.config.run_dir, name, config, cli.config.ckpt_path, lambda text: whole(text, config, cli.parser)
        ),
    )
    return Run(cli, config, *found)


def warm(cli: Any) -> None:
    """Start from the weights that the command line names, if any."""
    if cli.config.weights is not None:
        cli.model.load_weights(runs.weights_file(cli.config.weights))


def drawn_seed(cli: Any) -> list[str]:
    """The flag that repeats a run whose seed was drawn at random; none for another."""
    return [] if cli.drawn_seed is None else ["--seed_everything", str(cli.drawn_seed)]


def say(cli: Any, text: str) -> None:
    """Print, once."""
    if cli.trainer.is_global_zero:
        print(text, flush=True)
