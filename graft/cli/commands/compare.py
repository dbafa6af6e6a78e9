"""``graft compare``: methods at an equal budget."""

from pathlib import Path

from graft import runs
from graft.cli.arguments import command_line, split_flags
from graft.cli.configs import config_name
from graft.cli.parser import parse_and_build
from graft.commands.compare import methods, show
from graft.commands.compare.run import Comparison
from graft.commands.compare.setup import Setup
from graft.commands.compare.spec import parse_spec
from graft.errors import GraftError
from graft.runs.stopwatch import Stopwatch

USAGE = """usage: graft compare --config NAME --methods a,b --seeds 0,1,2 [--SETTING VALUE ...]

  --methods LIST     methods, see below, or configuration files of settings: pgraft,best_of:8,mine.yaml
  --seeds LIST       seeds of the runs
  --levels LIST      numbers or auto, for methods that have a level; the configuration's own if not given
  --baseline METHOD  method that the others are compared with; the first one if not given
  --path N           evaluate the weights after N rounds of each run, spread evenly and with its last; 1 if not given
  --target_draws N   draws of the reference for the accepted distribution; as many as in a run if not given
  --run_dir FOLDER   folder of the comparison; runs/compare-NAME/N if not given. An earlier comparison is resumed.
"""


def run(args: list[str]) -> None:
    """Run the missing runs, and print the table."""
    own, rest = split_flags(args, ("methods", "seeds", "levels", "baseline", "target_draws", "path", "run_dir"))
    if {"-h", "--help"} & set(rest):
        print(f"{USAGE}\nmethods:\n{methods.describe_methods()}\n")
        parse_and_build("compare", rest)
    run_dir = own.pop("run_dir", None)
    spec = parse_spec(own.pop("methods", ""), own.pop("seeds", ""), **own)

    def build(flags: list[str]) -> Setup:
        cli, config = parse_and_build("compare", [*rest, *flags])
        for name in ("weights", "ckpt_path"):
            if cli.config[name] is not None:
                raise GraftError(
                    f"graft compare trains from the reference and resumes by --run_dir: leave out --{name}"
                )
        loggers, cli.trainer.loggers = cli.trainer.loggers, []
        return Setup(cli.model, cli.datamodule, cli.trainer, config, loggers)

    comparison = Comparison(spec, build, command_line("compare", args))
    name = f"compare-{config_name(rest)}"
    folder = Path(run_dir) if run_dir is not None else runs.resolve_run(None, name, "", None)[0]
    with Stopwatch() as clock:
        comparison.open(folder)
        clock.keep(folder)
        print(f"graft: comparison in {folder}", flush=True)
        comparison.run()
        about = {**comparison.about(), "seconds": round(clock.seconds, 1)}
    shown = show.comparison_table(*show.write_comparison(folder, comparison.rows_shown, about), about)
    print(f"\n{shown}\n\n{folder / 'compare.html'}")
