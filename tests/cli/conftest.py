"""One tiny reference and one tiny run for all tests of the command line."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from called import HALF, HERE, MIXTURE, MOLECULE, QUIET, REWARD, SMALL, TOY, done


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Enumerated molecules go to a folder of this session's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.syspath_prepend(TOY)  # domains.mixture, from every folder
        patch.syspath_prepend(HERE)  # tried.py; pytest's own order of paths is not to be relied on
        yield


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Every test runs in an empty folder; modules in it are unknown to the tests after it."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that the shipped pre-training config made of few molecules, with a smaller network."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = ["--data.max_heavy_atoms", "4", "--trainer.max_epochs", "1", "--model.steps", "8", *QUIET]
        settings += ["--trainer.log_every_n_steps", "1"]
        settings += ["--model.backbone.init_args.hidden_dim", "32", "--model.backbone.init_args.num_layers", "2"]
        done("pretrain", "--config", "domains/molecule_small_pretrain.yaml", *settings, "--run_dir", folder / "run")
    return folder / "run" / "reference.safetensors"


@pytest.fixture(scope="session")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy domain and a reference of it, ``run/reference.safetensors``; no test may change it."""
    folder = tmp_path_factory.mktemp("mixture")
    shutil.copytree(TOY / "domains", folder / "domains")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = ["--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *QUIET]
        done("pretrain", *settings, "--run_dir", folder / "run")
    return folder


@pytest.fixture
def toy(mixture: Path, folder: Path) -> Path:
    """The current folder, with a copy of the toy domain and its reference."""
    shutil.copytree(mixture, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def small(reference: Path) -> list[str]:
    """Arguments of a small fit of molecules; a test that needs no molecules takes `mixture_fit`."""
    return [*MOLECULE, "--model.weights", str(reference), *SMALL, *QUIET, *REWARD, *HALF]


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small: list[str]) -> Path:
    """The folder of a finished run of molecules, which no test may change."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = done("fit", *small)
    (folder / "out.txt").write_text(result.out)
    return folder / "runs" / "molecule" / "1"


@pytest.fixture(scope="session")
def mixture_reference(mixture: Path) -> Path:
    """The reference of the toy domain."""
    return mixture / "run" / "reference.safetensors"


@pytest.fixture(scope="session")
def mixture_fit(mixture_reference: Path) -> list[str]:
    """Arguments of a small fit of the toy domain, for tests of what all domains share."""
    return [*MIXTURE, "--model.weights", str(mixture_reference), *SMALL, *QUIET, *REWARD, *HALF]


@pytest.fixture(scope="session")
def mixture_run(tmp_path_factory: pytest.TempPathFactory, mixture_fit: list[str]) -> Path:
    """The folder of a finished run of the toy domain, which no test may change."""
    folder = tmp_path_factory.mktemp("mixture_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("fit", *mixture_fit)
    return folder / "runs" / "mixture" / "1"
