"""``graft levels``: the share of the reward that is decided at each level, and the level to choose."""

from graft.cli.configs import config_name
from graft.cli.context import assign_run_dir, rank_zero_print
from graft.cli.parser import parse_and_build
from graft.commands.level_comparison import levels
from graft.commands.levels import show
from graft.errors import GraftError


def run(args: list[str]) -> None:
    """Sample and score, and print the table of levels."""
    cli, config = parse_and_build("levels", args)
    for name in ("weights", "ckpt_path"):
        if cli.config[name] is not None:
            raise GraftError(f"graft levels looks at the reference, which model.weights gives: leave out --{name}")
    folder = assign_run_dir(cli, config, f"{config_name(args)}_levels").folder
    found = levels(cli.model, cli.datamodule, folder, cli.trainer, config)
    rank_zero_print(cli, f"{show.levels_table(found)}\n\n{folder / show.PICTURE}")
