"""A configuration and its flags, parsed and built: Lightning's command line with graft's settings."""

import inspect
import itertools
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from graft import plain_yaml
from graft.cli.configs import list_configs, read_config, resolve_config_paths
from graft.cli.messages import shorten_parser_error
from graft.cli.seed import settle
from graft.cli.warning_filters import install_warning_filters
from graft.commands import TRAINER_DEFAULTS, saves
from graft.correct import InvertedNoiseData
from graft.errors import GraftError
from graft.module import GraftModule
from graft.rollouts import Rollouts

Vet = Callable[[dict[str, Any]], None]

plain_yaml.install()  # before any parser reads a configuration or a value


def parse_and_build(command: str, args: "list[str] | dict[str, Any]", vet: "Vet | None" = None) -> "tuple[Any, str]":
    """(command line, its configuration as YAML), with Lightning's chatter turned down; see `parsed`."""
    install_warning_filters()  # again, for the import of Lightning sets levels of its own
    if isinstance(args, list) and {"-h", "--help"} & set(args):
        _help(command, args)
        raise SystemExit(0)
    cli = make_cli(command, args, vet)
    config = cli.config.clone()
    for name in ("ckpt_path", "run_dir"):  # what is kept says what was done, not where or how often it was begun
        if name in config:
            config[name] = None
    return cli, cli.parser.dump(config, skip_none=False)


def make_cli(command: str, args: "list[str] | dict[str, Any]", vet: "Vet | None" = None) -> Any:
    """The parsed and instantiated command: ``.model``, ``.datamodule``, ``.trainer``, ``.config``.

    Args:
        command: Of graft.
        args: Of the command line, or a configuration.
        vet: Looks at the settings of the model, with all names resolved, just before anything is built of them.
    """
    data = {"pretrain": LightningDataModule, "sample": None, "correct": InvertedNoiseData}.get(command, Rollouts)
    reloads = data in (Rollouts, InvertedNoiseData)

    class CLI(LightningCLI):
        """Lightning's command line with graft's settings; a run's folder is chosen before anything is built."""

        def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
            parser.add_argument(
                "--run_dir", type=str | None, default=None, help="Folder of the run; runs/NAME/N if null."
            )
            parser.add_argument(
                "--ckpt_path",
                type=str | None,
                default=None,
                help="Go on with an interrupted run: a checkpoint, 'last', or 'auto': the last if any.",
            )
            parser.add_argument(
                "--weights",
                type=str | None,
                default=None,
                help="Start from the tuned weights of a run: its folder or its weights file.",
            )
            parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=int)
            if reloads:
                parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

        def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
            super().parse_arguments(parser, args)
            self.drawn_seed = settle(self.config, args)

        def instantiate_trainer(self, **kwargs: Any) -> Any:
            """Build the trainer; see `graft.commands.saves`."""
            if saves((self.config_init.get("trainer") or {}).get("callbacks")):
                kwargs["enable_checkpointing"] = True
            return super().instantiate_trainer(**kwargs)

        def before_instantiate_classes(self) -> None:
            if data is Rollouts:  # the parser lets null pass for anything
                _no_nulls("data", Rollouts, vars(self.config.data))
            if vet is not None:
                vet(self.config.model.as_dict())

    flags = [arg.partition("=")[0] for arg in args]
    if isinstance(args, list) and not any(f in ("--config", "-c", "-h") or f.endswith("help") for f in flags):
        raise GraftError(f"give a configuration: graft {command} --config NAME; there are {', '.join(list_configs())}")
    try:
        return CLI(
            GraftModule,
            data,
            subclass_mode_model=True,
            subclass_mode_data=data is LightningDataModule,
            save_config_callback=None,
            trainer_defaults={**TRAINER_DEFAULTS, "reload_dataloaders_every_n_epochs": int(reloads)},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={
                "prog": f"graft {command}",
                "description": "A config's settings, each of which is also a flag.",
                "exit_on_error": False,
                "allow_abbrev": False,
            },
            args=resolve_config_paths(command, args) if isinstance(args, list) else args,
            run=False,
        )
    except ModuleNotFoundError as error:  # of an optional library: TensorBoard, Weights & Biases
        raise GraftError(f"the configuration needs a package that is not installed ({error}): install it") from error
    except (ValueError, TypeError, OverflowError, ImportError) as error:  # a constructor's: the Trainer's, a user's
        raise GraftError(shorten_parser_error(str(error))) from error


def _no_nulls(place: str, kind: type, given: dict[str, Any]) -> None:
    """Refuse null where a class has a value of its own and takes no null."""
    for name, parameter in inspect.signature(kind).parameters.items():
        allowed = parameter.default is None or "None" in str(parameter.annotation)
        if name in given and given[name] is None and not allowed:
            raise GraftError(f"{place}.{name} is null, but it needs a value, such as {parameter.default!r}")


def _help(command: str, args: list[str]) -> None:
    """Every setting: the command's own, then those of the classes that the configuration names."""
    found = resolve_config_paths(command, [arg for arg in args if arg not in ("-h", "--help")])
    paths = [value for flag, value in itertools.pairwise(found) if flag in ("--config", "-c")]
    paths += [arg.partition("=")[2] for arg in found if arg.startswith(("--config=", "-c="))]
    classes: dict[str, str] = {}
    for path in paths:
        config = read_config(path)
        places = {"model": config.get("model"), "data": config.get("data")}
        places |= {f"data.{key}": value for key, value in (config.get("data") or {}).items()}
        for place, value in places.items():
            if isinstance(value, dict) and "class_path" in value:
                classes[place] = value["class_path"]
    levels = (
        [] if command in ("pretrain", "correct") else [["--data.level_search.help"]]
    )  # a setting of settings of its own
    for extra in [["--help"], *([f"--{place}.help={name}"] for place, name in classes.items()), *levels]:
        try:
            make_cli(command, extra)
        except SystemExit:
            pass
