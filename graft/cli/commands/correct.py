"""``graft correct``: inverse noise correction of a flow."""

from graft.cli.arguments import command_line
from graft.cli.context import drawn_seed, rank_zero_print, start_run
from graft.commands.correct import show
from graft.commands.correct.command import correct


def run(args: list[str]) -> None:
    """Recover the noise of data, train the corrector on it, and print the table."""
    cli, config, folder, checkpoint = start_run("correct", args)
    rank_zero_print(cli, f"graft: run in {folder}")
    again = command_line("correct", [*args, *drawn_seed(cli)])
    summary = correct(cli.model, cli.datamodule, folder, cli.trainer, config, again, checkpoint)
    rank_zero_print(cli, f"\n{show.correction_table(summary)}\n\n{folder / 'report.html'}")
