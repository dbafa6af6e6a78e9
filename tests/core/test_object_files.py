"""A file of one object of each domain, as other programs get it."""

import io
import json

import pytest
from PIL import Image
from rdkit import Chem

from domains.images import Images
from domains.images.text.module import TextToImage
from domains.layouts.layout import layout
from domains.layouts.module import Layouts
from domains.molecules.module import Molecules
from graft import GraftError, GraftModule


def bare(kind: type[GraftModule]) -> GraftModule:
    """Return a domain without networks: its writers need none."""
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", [Images, TextToImage])
def test_a_picture_is_a_png_of_itself(kind: type[GraftModule]) -> None:
    image = Image.frombytes("RGB", (3, 2), bytes(range(18)))
    image.info["prompt"] = "a cat"
    suffix, content = bare(kind).to_file(image)
    assert suffix == ".png" and Image.open(io.BytesIO(content)).tobytes() == image.tobytes()
    image.info["failed"] = "pixels are not finite"
    with pytest.raises(GraftError, match="pixels are not finite"):
        bare(kind).to_file(image)


def test_a_molecule_is_an_sdf_record() -> None:
    suffix, content = bare(Molecules).to_file(Chem.MolFromSmiles("CCO"))
    assert suffix == ".sdf" and content.decode().rstrip().endswith("$$$$")
    (found,) = Chem.ForwardSDMolSupplier(io.BytesIO(content))
    assert Chem.MolToSmiles(found) == "CCO"


def test_a_layout_is_coco() -> None:
    page = layout(["text"], [[0.1, 0.2, 0.5, 0.6]])
    suffix, content = bare(Layouts).to_file(page)
    found = json.loads(content)
    assert suffix == ".json" and len(found["images"]) == len(found["annotations"]) == 1
