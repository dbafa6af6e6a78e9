"""``graft pretrain``: train a reference on data."""

from graft import commands, report
from graft.cli.run import begun, say


def run(args: list[str]) -> None:
    """Train, and show how good it is."""
    cli, config, folder, checkpoint = begun("pretrain", args)
    say(cli, f"graft: run in {folder}")
    summary = commands.pretrain(cli.model, cli.datamodule, folder, cli.trainer, config, checkpoint)
    for name, value in summary["reference"].items():
        if not isinstance(value, dict):
            say(cli, f"{name.replace('_', ' '):<20} {report.number(value)}")
    say(cli, str(folder / "reference.safetensors"))
