"""The default process of molecules."""

from domains.molecules.vocabulary import Convention, find_vocabulary
from graft.process import Gaussian, MaskProjection, MultiFieldProcess, PolynomialSchedule, ZeroCenterOfMass


def default_process(convention: Convention = "heavy", max_atoms: "int | None" = None) -> MultiFieldProcess:
    """Return the process of molecules of at most ``max_atoms`` nodes.

    Args:
        convention: Convention of the nodes, as in `domains.molecules.Molecules`.
        max_atoms: Largest number of nodes; None for 8 heavy atoms, 16 drug-like ones, or 29 atoms with hydrogens.
    """
    vocabulary = find_vocabulary(convention)
    size = max_atoms or {"heavy": 8, "explicit": 29}.get(vocabulary.name, 16)
    snr, one_hot_scale = (1000.0, 0.25) if vocabulary.explicit else (300.0, 0.18)
    # More noise than ancestral steps draw closes more rings of large molecules, as long as types are undecided.
    eta, eta_above = (1.0, 0.0) if vocabulary.name in ("heavy", "explicit") else (2.0, 0.2)
    schedule = PolynomialSchedule()
    x = Gaussian(schedule, "x0", (size, 3), eta, 2.0, (0.2, snr), 1.0, ZeroCenterOfMass(), eta_above=eta_above)
    # The one-hot is small, so that the types are decided last, when the positions show the bonds.
    shape = (size, len(vocabulary))
    h = Gaussian(schedule, "logits", shape, eta, 2.0, (0.2, 10.0), one_hot_scale, MaskProjection(), eta_above=eta_above)
    return MultiFieldProcess({"x": x, "h": h}, {"x": 1.0, "h": 0.05})
