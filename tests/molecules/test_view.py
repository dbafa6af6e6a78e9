"""Molecules that turn in the browser: the data is right, and nothing is loaded from anywhere."""

import copy
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from mols import BAD, GOOD, PIECES, RADICAL, embedded

from domains.molecules.view import surround, view
from domains.molecules.vocabulary import EXPLICIT

VIEWER = Path(__file__).parents[2] / "domains/molecules/viewer.js"


def shown(fragment):
    """The molecules of a fragment."""
    return [json.loads(text) for text in re.findall(r"<script type='application/json'>(.*?)</script>", fragment)]


def test_what_is_shown():
    mols = [GOOD, embedded("CCO", EXPLICIT), embedded("CC#N"), BAD, RADICAL, PIECES]
    ethanol, explicit, nitrile, *rest = shown(view(mols))
    for data in (ethanol, explicit):
        assert sorted(atom[0] for atom in data["atoms"]) == ["C", "C", *"HHHHHH", "O"] and len(data["bonds"]) == 8
    assert {order for _, _, order in nitrile["bonds"]} == {1, 3}
    assert ethanol["atoms"][1][1:] == GOOD.GetConformer().GetPositions()[1].round(3).tolist()
    assert [len(data["atoms"]) for data in rest] == [3, 3, 16]  # hydrogens are placed in what is valid alone
    assert all(0 <= i < len(d["atoms"]) and 0 <= j < len(d["atoms"]) for d in rest for i, j, _ in d["bonds"])


def test_it_stands_alone():
    fragment = view([GOOD], ["<b>0.5 & more</b>"])
    assert "&lt;b&gt;0.5 &amp; more&lt;/b&gt;" in fragment and "<b>" not in fragment
    for word in ("http", "src=", "href", "import", "fetch", "XMLHttp", "url(", "eval", "innerHTML"):
        assert word not in fragment, word
    assert fragment.count("<script>") == 1 and fragment.count("</script>") == 2


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
def test_the_script_draws_and_turns(tmp_path):
    """In a page of stand-ins each molecule is shown, an arrow key turns it, and a double click resets it."""
    (tmp_path / "run.js").write_text(
        """
        const fs = require("fs"), log = [], handlers = {};
        let strokes = 0;
        const gradient = { addColorStop() {} };
        const ctx = new Proxy({}, {
          get: (t, name) => name === "createRadialGradient" ? (...a) => { log.push(a[3].toFixed(3)); return gradient; }
            : name === "stroke" ? () => { strokes += 1; } : () => {},
          set: () => true,
        });
        const canvas = { width: 100, height: 100, style: {}, getContext: () => ctx, setPointerCapture() {},
                         addEventListener: (name, f) => { handlers[name] = f; } };
        const figure = { dataset: {}, querySelector: s => s === "canvas" ? canvas : { textContent: process.argv[3] } };
        global.window = { devicePixelRatio: 2 };
        global.document = { querySelectorAll: () => [figure] };
        eval(fs.readFileSync(process.argv[2], "utf8"));
        const first = log.splice(0), lines = strokes;
        handlers.keydown({ key: "ArrowLeft", preventDefault() {} });
        const turned = log.splice(0);
        handlers.dblclick();
        const back = log.splice(0), shown = figure.dataset.shown, w = canvas.width;
        console.log(JSON.stringify({ first, turned, back, shown, w, lines }));
        """
    )

    def drawn(mol):
        data = json.dumps(shown(view([mol]))[0])
        done = subprocess.run(
            ["node", tmp_path / "run.js", VIEWER, data], capture_output=True, text=True, timeout=60, check=True
        )
        return json.loads(done.stdout)

    out, docked = drawn(GOOD), copy.deepcopy(GOOD)
    surround(docked, ["C", "N", "Zn"], np.array([[4.0, 0, 0], [4.0, 1.4, 0], [9.0, 0, 0]]))
    pocket = drawn(docked)
    assert len(pocket["first"]) == 9 + 1 and pocket["lines"] == out["lines"] + 2  # a ball of zinc, a bond of two halves
    assert len(out["first"]) == 9 and out["first"] == out["back"] != out["turned"] and out["shown"] == "yes"
    assert out["w"] == 200
