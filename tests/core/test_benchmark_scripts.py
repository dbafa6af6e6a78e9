"""Every benchmark can be started as its page says: by its path, from the root of the repository."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OPTIONAL = ("diffusers", "transformers", "peft", "sklearn", "PIL")
IMPORT_EACH = f"""
import runpy, sys
from pathlib import Path

folder, before = Path("tests/benchmarks"), list(sys.path)
folders = (Path("tests"), folder, Path("tests/text_to_image"))
local = {{path.stem for each in folders for path in each.glob("*.py")}}
for path in sorted(folder.glob("*.py")):
    sys.path[:] = [str(folder.resolve()), *before[1:]]
    for name in local:
        sys.modules.pop(name, None)
    try:
        runpy.run_path(str(path), run_name="benchmark")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {OPTIONAL!r}:
            print(f"{{path}}: {{error}}")
print("all")
"""


def test_benchmarks_find_their_modules() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # where graft is installed in place
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.split("\n")) == (0, ["all", ""]), done.stderr[-2000:]
