"""The run that a command starts or resumes."""

from pathlib import Path
from typing import Any, NamedTuple

from graft import runs
from graft.cli.configs import config_name
from graft.cli.parser import parse_and_build
from graft.core import distributed
from graft.runs.python_config import with_defaults


class CommandRun(NamedTuple):
    """Objects, configuration, folder and checkpoint of a command."""

    cli: Any  # .model, .datamodule, .trainer
    config: str  # YAML text
    folder: Path
    checkpoint: Path | None  # to resume from


def start_run(command: str, args: list[str], suffix: str = "") -> CommandRun:
    """Return the run of a command, built, with the initial weights; the folder is the same on every rank.

    Args:
        command: Name of the command.
        args: Arguments of the command.
        suffix: Text after the configuration's name in the name of the folder.
    """
    cli, config = parse_and_build(command, args)
    load_initial_weights(cli)
    return assign_run_dir(cli, config, config_name(args) + suffix)


def assign_run_dir(cli: Any, config: str, name: str) -> CommandRun:
    """Return the run of a parsed command, in a folder of this name unless ``--run_dir`` names one."""
    distributed.launch(cli.trainer, cli.model)
    found = distributed.on_rank_zero(
        cli.trainer,
        lambda: runs.resolve_run(
            cli.config.run_dir, name, config, cli.config.ckpt_path, lambda text: with_defaults(text, config, cli.parser)
        ),
    )
    return CommandRun(cli, config, *found)


def load_initial_weights(cli: Any) -> None:
    """Load the weights that ``--weights`` names, if any."""
    if cli.config.weights is not None:
        cli.model.load_weights(runs.find_weights(cli.config.weights))


def drawn_seed(cli: Any) -> list[str]:
    """Return the flag that repeats a run with a random seed; an empty list for a fixed seed."""
    return [] if cli.drawn_seed is None else ["--seed_everything", str(cli.drawn_seed)]


def rank_zero_print(cli: Any, text: str) -> None:
    """Print on rank 0."""
    if cli.trainer.is_global_zero:
        print(text, flush=True)
