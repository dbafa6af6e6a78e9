"""``graft compare``: methods at an equal budget."""

from pathlib import Path

from graft import runs
from graft.cli.arguments import apart, command_line
from graft.cli.configs import config_name
from graft.cli.parser import setup
from graft.compare import methods, plan, show
from graft.compare.run import Comparison
from graft.errors import GraftError
from graft.runs.stopwatch import Stopwatch

USAGE = """usage: graft compare --config NAME --methods a,b --seeds 0,1,2 [--SETTING VALUE ...]

  --methods LIST     methods, see below, or configuration files of settings: pgraft,best_of:8,mine.yaml
  --seeds LIST       of the runs
  --levels LIST      numbers or auto, for methods that have a level; the configuration's own if not given
  --baseline METHOD  that differences are taken to; the first one if not given
  --law_draws N      draws of the reference for the accepted law; as many as a run's if not given
  --run_dir FOLDER   where; runs/compare-NAME/N if not given. A comparison that is there goes on.
"""


def run(args: list[str]) -> None:
    """Run what is missing, and show the table."""
    own, rest = apart(args, ("methods", "seeds", "levels", "baseline", "law_draws", "run_dir"))
    if {"-h", "--help"} & set(rest):
        print(f"{USAGE}\nmethods:\n{methods.described()}\n")
        setup("compare", rest)
    run_dir = own.pop("run_dir", None)
    asked = plan.asked(own.pop("methods", ""), own.pop("seeds", ""), **own)

    def build(flags: list[str]) -> plan.Built:
        cli, config = setup("compare", [*rest, *flags])
        for name in ("weights", "ckpt_path"):
            if cli.config[name] is not None:
                raise GraftError(
                    f"graft compare trains from the reference and goes on by --run_dir: leave out --{name}"
                )
        loggers, cli.trainer.loggers = cli.trainer.loggers, []
        return plan.Built(cli.model, cli.datamodule, cli.trainer, config, loggers)

    comparison = Comparison(asked, build, command_line("compare", args))
    name = f"compare-{config_name(rest)}"
    folder = Path(run_dir) if run_dir is not None else runs.choose(None, name, "", None)[0]
    with Stopwatch() as clock:
        comparison.open(folder)
        clock.keep(folder)
        print(f"graft: comparison in {folder}", flush=True)
        comparison.finish()
        about = {**comparison.about(), "seconds": round(clock.seconds, 1)}
    print(f"\n{show.table(show.write(folder, comparison.shown, about), about)}\n\n{folder / 'compare.html'}")
