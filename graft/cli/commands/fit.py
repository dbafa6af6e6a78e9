"""``graft fit``: rollouts, acceptance, fine-tuning."""

from graft import commands, report
from graft.cli.arguments import command_line
from graft.cli.context import drawn_seed, rank_zero_print, start_run


def run(args: list[str]) -> None:
    """Fine-tune, and print the table."""
    cli, config, folder, checkpoint = start_run("fit", args)
    rank_zero_print(cli, f"graft: run in {folder}")
    again = command_line("fit", [*args, *drawn_seed(cli)])
    summary = commands.fit(cli.model, cli.datamodule, folder, cli.trainer, config, again, checkpoint)
    rank_zero_print(cli, f"\n{report.run_table(summary)}\n\n{folder / 'report.html'}")
