"""``graft levels``: how much of the reward is decided at each level, and which one to choose."""

from graft import commands
from graft.cli.configs import config_name
from graft.cli.parser import setup
from graft.cli.run import placed, say
from graft.errors import GraftError
from graft.levels import show


def run(args: list[str]) -> None:
    """Draw, score, and show the table of levels."""
    cli, config = setup("levels", args)
    for name in ("weights", "ckpt_path"):
        if cli.config[name] is not None:
            raise GraftError(f"graft levels looks at the reference, which model.weights gives: leave out --{name}")
    folder = placed(cli, config, f"{config_name(args)}_levels").folder
    found = commands.levels(cli.model, cli.datamodule, folder, cli.trainer, config)
    say(cli, f"{show.table(found)}\n\n{folder / show.PICTURE}")
