"""Write the prompts and real pictures with captions that ship with the pipeline.

``python -m domains.images.captioned.shipped --out domains/images/captioned/reference --source FILE.npz``
"""

import random
from pathlib import Path

import numpy as np

from domains.images.captioned import captions
from domains.images.captioned.scenes import Scenes
from graft.cli.script import script
from graft.core import seeding
from graft.io.atomic import atomic_write, write_text


def write(out: str, source: str, held_out: float = 0.15, prompts: int = 64, pictures: int = 800, seed: int = 3) -> str:
    """Write ``prompts.txt``, ``unseen_prompts.txt`` and ``pictures.npz``, and return the folder.

    Args:
        out: Folder of the files.
        source: ``.npz`` file of emoji, as in `domains.images.captioned.scenes.Scenes`.
        held_out: Share of the pairs of object and colour that the pipeline is not trained on.
        prompts: Number of prompts in each of the two files.
        pictures: Number of real pictures, of captions of both kinds.
        seed: Seed of the choice.

    Raises:
        GraftError: The source holds no emoji.
    """
    chosen = random.Random(seed)
    parts = captions.split(held_out)
    for name, part in zip(("prompts.txt", "unseen_prompts.txt"), parts, strict=True):
        some = chosen.sample(part, min(prompts, len(part)))
        write_text(Path(out) / name, "".join(f"{caption.text()}\n" for caption in some))
    drawn = chosen.choices([*parts[0], *parts[1]], k=pictures)
    found = Scenes(source).draw(drawn, seeding.make_generator(seed, "shipped")).movedim(1, -1).numpy()
    with atomic_write(Path(out) / "pictures.npz") as temporary, open(temporary, "wb") as file:
        texts = np.array([caption.text() for caption in drawn], np.str_)
        np.savez_compressed(file, allow_pickle=False, images=found, prompts=texts)
    return out


if __name__ == "__main__":
    script(write, __doc__)
