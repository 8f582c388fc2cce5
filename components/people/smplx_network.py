"""Networks of the package ``smplx`` for model files that were read and checked."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hvg.geometry.body_files import EXPRESSIONS, SHAPES, BodyFile


def smplx_network(file: BodyFile) -> Any:
    """The package's network for a model; hands are rotations, 0 the flat hand."""
    # Late: whoever has chosen no such body need not have agreed to the package's licence.
    import smplx
    from smplx.utils import Struct

    hands: dict[str, Any] = {"use_pca": False, "flat_hand_mean": True}
    arrays: dict[str, Any] = {**file.arrays, "shapedirs": _all_directions(file)}
    with TemporaryDirectory() as folder:
        if file.family == "smpl":
            return smplx.SMPL(model_path="", data_struct=Struct(**arrays), num_betas=file.num_betas)
        if file.family == "smplh":
            return smplx.SMPLH(model_path="", data_struct=Struct(**arrays), num_betas=file.num_betas, **hands)
        # This one reads its file itself, unpickling what it finds; what was checked has nothing to unpickle.
        clean = Path(folder) / "SMPLX_NEUTRAL.npz"
        np.savez(clean, allow_pickle=False, **arrays)
        return smplx.SMPLX(
            model_path=str(clean),
            num_betas=file.num_betas,
            num_expression_coeffs=file.num_expressions,
            **hands,
        )


def _all_directions(file: BodyFile) -> np.ndarray:
    """(P, 3, 300 or 400): the package uses ten of shape where a file has fewer than it might have; the others are 0 here."""
    given, shapes = file.arrays["shapedirs"], file.num_betas
    everything = np.zeros((*given.shape[:2], SHAPES + (EXPRESSIONS if file.num_expressions else 0)), given.dtype)
    everything[:, :, :shapes] = given[:, :, :shapes]
    everything[:, :, SHAPES : SHAPES + file.num_expressions] = given[:, :, shapes : shapes + file.num_expressions]
    return everything
