"""``graft fit``: rollouts, acceptance, fine-tuning."""

from graft import commands, report
from graft.cli.arguments import command_line
from graft.cli.run import begun, drawn_seed, say


def run(args: list[str]) -> None:
    """Fine-tune, and show the table."""
    cli, config, folder, checkpoint = begun("fit", args)
    say(cli, f"graft: run in {folder}")
    again = command_line("fit", [*args, *drawn_seed(cli)])
    summary = commands.fit(cli.model, cli.datamodule, folder, cli.trainer, config, again, checkpoint)
    say(cli, f"\n{report.table(summary)}\n\n{folder / 'report.html'}")
