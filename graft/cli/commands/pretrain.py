"""``graft pretrain``: train a reference on data."""

from graft import commands, report
from graft.cli.arguments import command_line
from graft.cli.context import drawn_seed, rank_zero_print, start_run


def run(args: list[str]) -> None:
    """Train, and print the metrics of the reference."""
    cli, config, folder, checkpoint = start_run("pretrain", args)
    rank_zero_print(cli, f"graft: run in {folder}")
    again = command_line("pretrain", [*args, *drawn_seed(cli)])
    summary = commands.pretrain(cli.model, cli.datamodule, folder, cli.trainer, config, again, checkpoint)
    for name, value in summary["reference"].items():
        if not isinstance(value, dict):
            rank_zero_print(cli, f"{name.replace('_', ' '):<20} {report.format_number(value)}")
    rank_zero_print(cli, str(folder / "reference.safetensors"))
