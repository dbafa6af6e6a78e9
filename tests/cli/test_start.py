"""Commands that need no model start without the libraries of models, which take seconds to import."""

import subprocess
import sys
from pathlib import Path

import pytest

import graft
from graft import commands

HEAVY = {
    "torch",
    "lightning",
    "torchmetrics",
    "torch_geometric",
    "scipy",
    "matplotlib",
    "pandas",
    "rdkit",
    "transformers",
}
MAIN = "from graft.cli import main; assert main({args}) == 0"


@pytest.mark.parametrize(
    "code",
    [
        "import graft; dir(graft); graft.__version__",
        MAIN.format(args=["--help"]),
        MAIN.format(args=["--version"]),
        MAIN.format(args=["new", "domain", "crystals"]),
    ],
    ids=["import graft", "--help", "--version", "new domain"],
)
def test_nothing_heavy_is_imported(code: str, tmp_path: Path) -> None:
    code += f"; import sys; assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import lightning
    import torch

    from graft.cli import main

    assert main(["--version"]) == 0
    shown = capsys.readouterr().out.split()
    assert dict(zip(shown[::2], shown[1::2], strict=True)) == {
        "graft": graft.__version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "lightning": lightning.__version__,
    }


def test_public_names_of_the_commands() -> None:
    assert all(getattr(commands, name) is not None for name in commands.__all__)
    files = {path.stem for path in Path(commands.__file__).parent.iterdir()}
    assert not files & set(commands.__all__), "an import of the file would hide the name"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        commands.nothing  # noqa: B018
