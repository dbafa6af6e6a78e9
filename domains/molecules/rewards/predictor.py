"""Trained predictors as rewards, loaded without pickle.

scikit-learn models are read by skops, torch networks by safetensors.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from torch import nn
from typing_extensions import override

from domains.molecules.chemistry import is_valid
from domains.molecules.rewards.featurise import Featuriser, MorganFeatures
from graft.core.finite import require_finite_network
from graft.errors import GraftError
from graft.io.checksum import file_checksum
from graft.io.fingerprint import public_attributes
from graft.io.foreign_weights import load_state_dict
from graft.io.paths import find_file
from graft.reward import BatchReward, Scores


class Predictor(BatchReward):
    """Prediction of a trained model from a molecule's features.

    An invalid molecule counts as failed, and so does one whose features or prediction are not finite.

    Args:
        path: File of the model.
        features: Features that the model was trained on; Morgan fingerprints of 2048 bits if not given.
        higher_is_better: False if smaller is better.
        name: Name in tables; the file's if not given.
        unit: Unit of the prediction.
    """

    def __init__(
        self, path: str, features: "Featuriser | None", higher_is_better: bool, name: "str | None", unit: str
    ) -> None:
        self.path, self.features, self.higher_is_better, self.unit = (
            path,
            features or MorganFeatures(),
            higher_is_better,
            unit,
        )
        self.name = name or find_file(path).stem

    @override
    def identity(self) -> Any:
        """Return the settings and the hash of the model's file."""
        public = {name: value for name, value in public_attributes(self).items() if name not in ("path", "name")}
        return {"predictor": type(self).__qualname__, "file": file_checksum(find_file(self.path)), **public}

    @abstractmethod
    def predict(self, features: NDArray[np.float32]) -> NDArray[Any]:
        """Return (n,) predictions from (n, d) features."""

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = Scores([math.nan] * len(items))
        valid = [i for i, item in enumerate(items) if is_valid(item)]
        scores.failures = {i: "the molecule is not valid" for i in range(len(items)) if i not in set(valid)}
        if not valid:
            return scores
        for i, value in zip(valid, self._predictions([Chem.RemoveHs(items[i]) for i in valid]), strict=True):
            if math.isfinite(value):
                scores.values[i] = value
            else:
                scores.failures[i] = f"the prediction is {value}"
        return scores

    def _predictions(self, mols: Sequence[Any]) -> list[float]:
        """Return the prediction of each molecule, NaN where features are not finite and the model refuses those."""
        features = self.features(mols)
        finite = np.isfinite(features).all(1)
        try:
            try:
                values = np.asarray(self.predict(features), float).ravel()
            except ValueError:  # scikit-learn refuses all molecules if the features of one are not finite
                if finite.all():
                    raise
                values = np.full(len(mols), math.nan)
                if finite.any():
                    values[finite] = np.asarray(self.predict(features[finite]), float).ravel()
        except (ValueError, RuntimeError) as error:  # features of another kind fail for all molecules
            raise GraftError(
                f"{self.path} cannot predict from these features ({str(error).splitlines()[0]}): give the features "
                "of its training"
            ) from None
        if len(values) != len(mols):
            raise GraftError(
                f"{self.path} predicts {len(values)} numbers for {len(mols)} molecules; it must predict one for each"
            )
        return list(values.tolist())


class SklearnPredictor(Predictor):
    """A scikit-learn model in a ``.skops`` file, read without running code.

    ``skops.io.dump(model, path)`` writes such a file.

    Args:
        path: File of the model.
        features: Features that the model was trained on; Morgan fingerprints of 2048 bits if not given.
        probability: For a classifier: take the probability of its last class instead of the prediction.
        trusted: Types in the file that you trust, in addition to those that skops knows to be safe. Tree models
            (``sklearn.tree._tree.Tree``: random forests, gradient boosting) must be named, for a forged tree can crash
            the process: name them only for files from a source that you trust.
        higher_is_better: False if smaller is better.
        name: Name in tables; the file's if not given.
        unit: Unit of the prediction.
    """

    def __init__(
        self,
        path: str,
        features: "Featuriser | None" = None,
        probability: bool = False,
        trusted: "list[str] | None" = None,
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
    ) -> None:
        super().__init__(path, features, higher_is_better, name, unit)
        self.probability, self.trusted = probability, trusted or []
        self._model = _skops(path, self.trusted)
        if probability and not hasattr(self._model, "predict_proba"):
            raise GraftError(f"{path} holds a {type(self._model).__name__}, which gives no probabilities")

    @override
    def predict(self, features: NDArray[np.float32]) -> NDArray[Any]:
        if self.probability:
            return np.asarray(self._model.predict_proba(features))[:, -1]
        found = np.asarray(self._model.predict(features))
        try:
            return found.astype(float)
        except ValueError:
            raise GraftError(
                f"{self.path} predicts {str(found.flat[0])!r}, a class that is no number: give `probability: true` for "
                f"the probability of its last class, {str(self._model.classes_[-1])!r}"
            ) from None


class TorchPredictor(Predictor):
    """A torch network with weights in a safetensors file, or in a state dict of tensors only.

    Args:
        path: File of the weights.
        network: Network (n, d) features -> (n,) or (n, 1); `MLP` or any class by its path.
        features: Features that the network was trained on; Morgan fingerprints of 2048 bits if not given.
        output: ``sigmoid`` for a network that returns logits of a probability.
        higher_is_better: False if smaller is better.
        name: Name in tables; the file's if not given.
        unit: Unit of the prediction.
    """

    def __init__(
        self,
        path: str,
        network: nn.Module,
        features: "Featuriser | None" = None,
        output: Literal["as it is", "sigmoid"] = "as it is",
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
    ) -> None:
        super().__init__(path, features, higher_is_better, name, unit)
        self.output = output
        tensors, _ = load_state_dict(find_file(path))
        weights = {name.removeprefix("backbone/"): tensor for name, tensor in tensors.items()}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            line = str(error).splitlines()[-1].strip()
            raise GraftError(
                f"{path} holds another network's weights than {type(network).__name__}'s: {line}"
            ) from None
        require_finite_network(network, path, "give another file")
        self.network = network.eval()

    @override
    def predict(self, features: NDArray[np.float32]) -> NDArray[Any]:
        with torch.no_grad():
            out = self.network(torch.from_numpy(features))
        return (out.sigmoid() if self.output == "sigmoid" else out).double().numpy()  # type: ignore[no-any-return]


class MLP(nn.Sequential):
    """A multilayer perceptron of ReLU units with one linear output.

    Args:
        inputs: Number of features.
        width: Width of the hidden layers.
        layers: Number of hidden layers.
    """

    def __init__(self, inputs: int = 2048, width: int = 256, layers: int = 2) -> None:
        parts: list[nn.Module] = []
        for i in range(layers):
            parts += [nn.Linear(inputs if i == 0 else width, width), nn.ReLU()]
        super().__init__(*parts, nn.Linear(width if layers else inputs, 1))


def _skops(path: str, trusted: "list[str]") -> Any:
    try:
        import skops.io as safe
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError:
        raise GraftError("scikit-learn predictors are read by skops: pip install 'graft-diffusion[sklearn]'") from None
    file = find_file(path)
    if file.suffix != ".skops":
        raise GraftError(
            f"{path} is no .skops file: pickles run code when they are read, so write the model with skops.io.dump"
        )
    try:
        return safe.load(file, trusted=trusted)
    except UntrustedTypesFoundException:
        unknown = sorted(set(safe.get_untrusted_types(file=file)) - set(trusted))
        raise GraftError(
            f"{path} holds types that are not known to be safe; if it is from a source that you trust, name them: "
            f"`trusted: [{', '.join(unknown)}]`"
        ) from None
    except Exception as error:  # no zip, no schema, a truncated array: a dozen types
        raise GraftError(f"{path} is no model that skops wrote, or is truncated ({type(error).__name__})") from None
