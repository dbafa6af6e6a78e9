"""``graft test``: compare a model with its reference."""

from graft import commands, report
from graft.cli.parser import setup
from graft.cli.run import say, warm


def run(args: list[str]) -> None:
    """Judge draws of both."""
    cli, _ = setup("test", args)
    warm(cli)
    commands.compare(cli.model, cli.datamodule, cli.trainer)
    sides = {name: judge.summary() for name, judge in cli.model.judges.items()}
    say(cli, f"{'':<20} {'reference':>12} {'tuned':>12}")
    for name in sides["tuned"]:
        values = "".join(f" {report.number(sides[side][name]):>12}" for side in ("reference", "tuned"))
        say(cli, f"{name.replace('_', ' '):<20}{values}")
