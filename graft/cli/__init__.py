"""The command line, ``graft COMMAND``; each command is a file of `graft.cli.commands`."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from graft.cli.signals import ended_by_sigterm
from graft.cli.streams import make_lasting
from graft.cli.warning_filters import IGNORED_WARNINGS, install_warning_filters

__all__ = ["COMMANDS", "IGNORED_WARNINGS", "console", "load", "main"]

COMMANDS = {  # names and texts of the help; a command is the `run` of the file of its name
    "fit": "rollouts, acceptance, fine-tuning; ends with a table, pictures and files (the main job)",
    "pretrain": "train a reference on data",
    "correct": "inverse noise correction of a flow: fewer operations a sample, learned from data and no reward",
    "levels": "the share of the reward that is decided at each level, and the level to choose",
    "compare": "methods at an equal budget: --methods a,b --seeds 0,1,2 [--levels 0,0.125,auto]",
    "sample": "sample objects from the weights of a run: --weights RUN -n 256 --out FILE [--seed S] [--level U]\n"
    "[--interpolate W] [--best_of N] [--condition FILE]\n"
    "[--model.SETTING VALUE]",
    "hits": "the best distinct objects of a run, ranked, with pictures: --weights RUN -n 100 --out FILE [--draws N]",
    "rate": "people rate draws of a run on a page in the browser: RUN -n 64 [--scale keep|stars] [--round N]\n"
    "[--out FILE]",
    "evaluate": "the domain's metrics of fresh samples, over several runs: --weights RUN -n 10000 --runs 3 "
    "[--out FILE.json]",
    "check": "try every hook of a domain on three samples, and say what is wrong: --config mine.yaml",
    "new": "write a package with a domain that runs: domain NAME",
    "validate": "evaluate draws of a model: --weights RUN",
    "test": "compare a model with its reference: --weights RUN",
    "predict": "sample a model into the run's folder: --weights RUN",
}
HOW_TO_RESUME = {
    "compare": "the same command and --run_dir",
    **dict.fromkeys(("fit", "pretrain", "correct"), "--ckpt_path last"),
}
HELP = """usage: graft COMMAND --config NAME [--config NAME ...] [--SETTING VALUE ...]

Fine-tune diffusion and flow models on a reward by rejection sampling.

commands:
{commands}

A config is a path, or a name in ./configs or among the installed ones; several are merged, the later one wins, and
flags win over them.  graft COMMAND --config NAME --help  explains every setting.
model.weights that graft wrote bring the network, the process and the steps, which configs and flags then change.
--trust takes them from config.yaml in the folder of the weights, which may name any class: for runs of your own only.
"""


def main(args: "Sequence[str] | None" = None) -> int:
    """Run a command and return its exit status: 0, 2 for an error of the user, 130 or 143 for an interruption."""
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        lines = [f"  {name:<9}  {text}".replace("\n", f"\n{'':<13}") for name, text in COMMANDS.items()]
        print(HELP.format(commands="\n".join(lines)))
        return 0
    if args[0] == "--version":
        from graft.version import versions

        print(" ".join(f"{name} {version}" for name, version in versions().items()))
        return 0
    try:
        here = os.getcwd()
    except FileNotFoundError:
        print("graft: the current folder was removed: change to another one", file=sys.stderr)
        return 2
    if here not in sys.path:
        sys.path.insert(0, here)  # for the user's own rewards and domains, as with python -m
    try:
        with ended_by_sigterm():
            return _run(args)
    except (KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, KeyboardInterrupt):  # Lightning's
            raise
        return _interrupted(args, error)


def console() -> None:
    """Run the ``graft`` command and exit."""
    make_lasting()
    sys.exit(main())


def load(config: str, *flags: str) -> tuple[Any, Any, Any]:
    """Return (module, data, trainer) of a configuration, as ``graft fit`` builds them.

    Args:
        config: Name or path of the configuration.
        *flags: Flags of the command line, such as ``--model.level=0.25``.
    """
    from graft.cli.parser import parse_and_build
    from graft.io import yaml_files
    from graft.runs.config_of_objects import remember

    cli, text = parse_and_build("fit", ["--config", config, *flags])
    remember(cli.model, cli.datamodule, cli.trainer, yaml_files.parse_yaml(text, config))
    return cli.model, cli.datamodule, cli.trainer


def _run(args: list[str]) -> int:
    """Run a command and return its exit status, unless a signal interrupts the command."""
    from graft.errors import GraftError

    install_warning_filters()
    try:
        if args[0] not in COMMANDS:
            raise GraftError(f"there is no command {args[0]!r}: {', '.join(COMMANDS)}")
        # imported here, so that the help does not wait for torch
        command = importlib.import_module(f"graft.cli.commands.{args[0]}")
        if args[0] == "new":  # needs no model
            command.run(args[1:])
            return 0
        from graft.reward.importing import guarded
        from graft.runs.folders import without_empty_folders
        from graft.runs.lock import release_locks_after

        with without_empty_folders(), release_locks_after(), guarded():  # a user's module may exit when it is imported
            command.run(args[1:])
    except Exception as error:
        from graft.cli.messages import user_message

        sentence = user_message(error)
        if sentence is None or os.environ.get("GRAFT_TRACEBACK") == "1":
            raise
        rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"  # any rank of a job may fail
        prefix = "graft" if rank == "0" else f"graft: process {rank}"
        print(f"{prefix}: {' '.join(sentence.split())}", file=sys.stderr)
        return 2
    return 0


def _interrupted(args: list[str], error: BaseException) -> int:
    """Print the command that resumes, and return the exit status."""
    from graft.cli.arguments import command_line, split_flags
    from graft.runs.interruption import Interrupted

    if isinstance(error.__context__, KeyboardInterrupt):  # Lightning made a SystemExit of it
        error = error.__context__
    status: int = getattr(error, "status", 130)
    if not isinstance(error, Interrupted) or args[0] == "compare":
        how = HOW_TO_RESUME.get(args[0], "")
        print(f"graft: interrupted{how and f'; resume with {how}'}", file=sys.stderr)
        return status
    _, rest = split_flags(args[1:], ("ckpt_path", "run_dir"))
    how = command_line(args[0], [*rest, "--run_dir", str(error.folder), "--ckpt_path", "last"])
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"graft: interrupted {error.where}, nothing is lost; resume with: {how}", file=sys.stderr)
    return status
