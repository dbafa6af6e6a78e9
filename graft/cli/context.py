"""The run that a command begins or goes on with."""

from pathlib import Path
from typing import Any, NamedTuple

from graft import distributed, runs
from graft.cli.configs import config_name
from graft.cli.parser import parse_and_build
from graft.runs.config_of_objects import whole


class Run(NamedTuple):
    """What a command works with."""

    cli: Any  # .model, .datamodule, .trainer
    config: str  # as YAML
    folder: Path
    checkpoint: Path | None  # to go on from


def start_run(command: str, args: list[str], suffix: str = "") -> Run:
    """Parse and build, with the weights asked for; the folder is the same on every process.

    Args:
        command: Of the command line.
        args: Its arguments.
        suffix: Of the folder's name, after the configuration's.
    """
    cli, config = parse_and_build(command, args)
    load_initial_weights(cli)
    return assign_run_dir(cli, config, config_name(args) + suffix)


def assign_run_dir(cli: Any, config: str, name: str) -> Run:
    """The run of what was parsed and built, in a folder of this name unless the command line says which."""
    distributed.launch(cli.trainer, cli.model)
    found = distributed.on_rank_zero(
        cli.trainer,
        lambda: runs.resolve_run(
            cli.config.run_dir, name, config, cli.config.ckpt_path, lambda text: whole(text, config, cli.parser)
        ),
    )
    return Run(cli, config, *found)


def load_initial_weights(cli: Any) -> None:
    """Start from the weights that the command line names, if any."""
    if cli.config.weights is not None:
        cli.model.load_weights(runs.find_weights(cli.config.weights))


def drawn_seed(cli: Any) -> list[str]:
    """The flag that repeats a run whose seed was drawn at random; none for another."""
    return [] if cli.drawn_seed is None else ["--seed_everything", str(cli.drawn_seed)]


def rank_zero_print(cli: Any, text: str) -> None:
    """Print, once."""
    if cli.trainer.is_global_zero:
        print(text, flush=True)
