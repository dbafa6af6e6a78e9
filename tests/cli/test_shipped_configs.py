"""The shipped configurations are short, resolve, and do not repeat what their weights say."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from called import done, run

from graft.io.paths import find_file
from graft.io.tensors import read_metadata

CONFIGS = Path(__file__).parents[2] / "configs"
FIT = ("molecule", "layout", "image", "molecule_qm9", "image_noise", "image_flow")
PRETRAIN = {  # and the file that ships for it
    "molecule_pretrain": "molecules/reference/drug_like",
    "molecule_qm9_pretrain": "molecules/reference/qm9",
    "layout_pretrain": "layouts/reference/publaynet",
    "image_pretrain": "images/reference/digits",
    "image_flow_pretrain": "images/reference/flow",
}
UNSHIPPED = ("molecule_large_pretrain",)  # for graphics processors
SHIPPED = [f"domains/{name}.safetensors" for name in PRETRAIN.values()]
BASES = {  # configurations that an overlay is laid over; test_configs.py has those of the molecules
    "molecule": ["molecule"],
    "layout": ["layout"],
    "text_to_image": ["text_to_image/sd2"],
}


def marked(names: Iterable[str]) -> list[Any]:
    """The names, of which those of pictures need their packages."""
    needs = pytest.mark.needs("diffusers")
    return [pytest.param(name, marks=needs) if "image" in name.split("/")[0] else name for name in names]


def settings(name: str) -> int:
    """Return the lines that are neither blank nor a comment."""
    lines = (line.strip() for line in (CONFIGS / name).read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def resolved(*names: str, flags: "list[str] | None" = None) -> dict[str, Any]:
    """Return the settings that configurations resolve to under their command."""
    command = "pretrain" if names[0].endswith("pretrain") else "correct" if names[0] == "image_flow" else "fit"
    first = names[0] if "/" in names[0] else f"domains/{names[0]}"
    paths = [f"{name}.yaml" for name in (first, *names[1:])]
    args = [arg for path in paths for arg in ("--config", path)]
    return yaml.safe_load(done(command, *args, *(flags or []), "--print_config").out)


def described(weights: str) -> dict[str, Any]:
    """The settings in the header of a shipped file."""
    return read_metadata(find_file(weights))["architecture"]["init_args"]


def within(part: Any, whole: Any) -> bool:
    """Return True if all settings of the one are in the other."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(name in whole and within(v, whole[name]) for name, v in part.items())
    return bool(part == whole)


def test_configs_are_short() -> None:
    for path in CONFIGS.rglob("*.yaml"):
        name = path.relative_to(CONFIGS).as_posix()
        most = (
            25
            if name.startswith("domains/") or name.endswith("sd2.yaml")
            else 8
            if name == "process/molecule_ode.yaml"
            else 17
        )
        assert settings(name) <= most, name


@pytest.mark.parametrize("name", marked(FIT))
def test_the_reference_brings_its_architecture(name: str) -> None:
    """Network, process and the domain's settings are those of the file, but for settings of the configuration."""
    model = yaml.safe_load((CONFIGS / f"domains/{name}.yaml").read_text())["model"]["init_args"]
    found, header = resolved(name)["model"]["init_args"], described(model["weights"])
    assert "backbone" not in model
    for key in {*header} - {*model, "level"}:
        assert within(header[key], found[key]), key
    own = model.get("process", {}).get("init_args", {})
    assert within(own | {"shape": [1, 8, 8]} if own else own, found["process"]["init_args"])


@pytest.mark.parametrize("name", marked(PRETRAIN))
def test_pretraining_makes_the_reference_that_ships(name: str) -> None:
    """The default process of the domain has not drifted from the file."""
    found, header = resolved(name)["model"]["init_args"], described(f"domains/{PRETRAIN[name]}.safetensors")
    assert within(header["process"], found["process"]) and within(
        header["backbone"]["init_args"], found["backbone"]["init_args"]
    )
    assert found["steps"] == header["steps"]


@pytest.mark.parametrize("name", UNSHIPPED)
def test_pretraining_without_a_file_that_ships(name: str) -> None:
    assert "weights" not in {key for key, value in resolved(name)["model"]["init_args"].items() if value is not None}


OVERLAYS = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.glob("*/*.yaml"))


@pytest.mark.parametrize("name", marked(name for name in OVERLAYS if name.split("/")[0] in (*BASES, "process")))
def test_an_overlay_resolves(name: str) -> None:
    """Every overlay resolves over each configuration that it is for."""
    kind, _, last = name.partition("/")
    bases = BASES.get(kind) or [base for base in ("molecule", "layout") if last.startswith(base)]
    bases = bases + [f"{base}_pretrain" for base in bases if kind == "process"]
    for base in bases:
        assert resolved(base, name)


@pytest.mark.parametrize("base", ["molecule", "molecule_pretrain"])
def test_an_overlay_changes_what_it_says(base: str) -> None:
    plain, ode = (resolved(base, *more)["model"]["init_args"] for more in ([], ["process/molecule_ode"]))
    fields = ode["process"]["init_args"]["fields"]
    for name in ("eta", "eta_above"):
        assert [field["init_args"].pop(name) for field in fields.values()] == [0, 0]
        for field in plain["process"]["init_args"]["fields"].values():
            field["init_args"].pop(name)
    assert ode == plain


@pytest.mark.parametrize("kind", ["flow", "masked"])
def test_a_process_of_layouts(kind: str) -> None:
    plain = resolved("layout_pretrain")["model"]["init_args"]["process"]["init_args"]
    found = resolved("layout_pretrain", f"process/layout_{kind}")["model"]["init_args"]["process"]["init_args"]
    box, label = found["fields"]["box"]["init_args"], found["fields"]["label"]["init_args"]
    assert box["shape"] == [20, 4] and label["shape"] == [20, 5] and found["weights"] == plain["weights"]
    assert box["projection"] == plain["fields"]["box"]["init_args"]["projection"]
    assert (box == plain["fields"]["box"]["init_args"]) == (kind == "masked")
    assert "weight" in label if kind == "masked" else (box["eta"], label["eta"]) == (0, 0)
    rico = resolved("layout_pretrain", "layout/rico")["model"]["init_args"]["process"]["init_args"]["fields"]
    assert rico["box"]["init_args"]["shape"] == [25, 4] and rico["label"]["init_args"]["shape"] == [25, 25]


@pytest.mark.parametrize("weights", SHIPPED)
def test_headers_hold_no_path_of_a_machine(weights: str) -> None:
    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in texts(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    about = read_metadata(find_file(weights))
    assert about["reference"] is None and {*about} <= {
        *("reference", "level", "architecture", "training", "format", "sha256")
    }
    found = [text for text in texts(about) if "/" in text or "\\" in text or "~" in text]
    assert all(text.startswith("domains/") and find_file(text).is_file() for text in found), found
    assert "file:" not in json.dumps(about)


@pytest.mark.parametrize(
    "command", ["fit", *(pytest.param(each, marks=pytest.mark.slow) for each in ("levels", "test"))]
)
def test_settings_of_the_user_lie_above_the_weights(command: str, folder: Path) -> None:
    """A value or a class replaces that of the weights, a setting in part changes that part, the last weights count."""
    (folder / "mine.yaml").write_text(
        "model: {init_args: {weights: domains/molecules/reference/qm9.safetensors, steps: 12, "
        "process: {init_args: {fields: {x: {init_args: {eta: 0}}, h: {init_args: {warp: 3}}}}}}}"
    )

    def model(*flags: str) -> dict[str, Any]:
        args = ["--config", "domains/molecule.yaml", "--config", "mine.yaml", *flags, "--print_config"]
        return yaml.safe_load(done(command, *args).out)["model"]["init_args"]

    found = model()
    fields = found["process"]["init_args"]["fields"]
    assert (found["steps"], found["convention"], found["sizes"]) == (12, "explicit", "qm9")
    assert (fields["x"]["init_args"]["eta"], fields["x"]["init_args"]["warp"]) == (0, 2)
    assert (fields["h"]["init_args"]["eta"], fields["h"]["init_args"]["warp"]) == (1, 3)
    assert within(described("domains/molecules/reference/qm9.safetensors")["backbone"], found["backbone"])
    other = "domains/molecules/reference/drug_like.safetensors"
    assert model("--model.weights", other)["convention"] == "drug_like"
    assert model(f"--model.init_args.weights={other}")["backbone"]["init_args"]["sigma_data"] == 1.6
    assert model("--model.backbone.init_args.num_layers", "2")["backbone"]["init_args"]["sigma_data"] == 1.4
    own = model("--model.backbone", "domains.molecules.backbone.EGNN", "--model.backbone.num_types", "5")
    assert own["backbone"]["init_args"]["sigma_data"] == 1  # the class's default: the user names a network of their own


@pytest.mark.parametrize("args", [[], ["--model.process", "graft.process.TrigFlow", "--model.process.shape", "[2]"]])
def test_weights_that_do_not_say_their_network(args: list[str], folder: Path) -> None:
    """One sentence, the same from Python."""
    import torch

    from domains.molecules import Molecules
    from graft import GraftError

    torch.save({"a": torch.zeros(2)}, "theirs.pt")
    message = run("fit", "--config", "domains/molecule.yaml", "--model.weights", "theirs.pt", *args).message
    sentence = "weights theirs.pt do not say their network; give model.backbone and model.process"
    assert message == f"graft: {sentence}"
    for make in (lambda: Molecules(weights="theirs.pt"), lambda: Molecules.from_pretrained("theirs.pt")):
        with pytest.raises(GraftError) as error:
            make()
        assert str(error.value) == sentence
    other = run("fit", "--config", "domains/molecule.yaml", "--model.class_path", "domains.images.Images").message
    assert "are of domains.molecules.Molecules" in other
    assert (
        "there is no file"
        in run("fit", "--config", "domains/molecule.yaml", "--model.weights", "no.safetensors").message
    )
