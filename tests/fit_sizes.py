"""Clips whose bodies are known, and how far a fit is off.

``python tests/fit_sizes.py`` prints the table of docs/fits.md; with words as those of a study, a row on its test people.
"""

import sys
from dataclasses import replace

import torch
from torch import Tensor

from components.bodies.anny import Anny
from hvg.config.build import build_dataset
from hvg.config.composition import compose
from hvg.core.random_keys import generator, numpy_generator
from hvg.core.text_tables import table
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.retargeting import relative
from hvg.geometry.rotations import rotation_matrix
from hvg.parts.context import Context
from hvg.parts.scene import BodyModel
from hvg.testing import tiny_batch
from hvg.values.body import BodyMotion
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.tensors import concatenate

PRESETS = ("mild", "typical", "severe")
HEADS = ("fit", "MPJPE", "PA-MPJPE", "PVE", "root", "rotations", "picture")


def clips_of(body: BodyModel, clips: int = 1, frames: int = 4, views: int = 2) -> ClipBatch:
    """Clips of people of their own build, who turn and move, far from the T-pose."""
    batch = tiny_batch(clips, views, frames, size=8)
    return replace(batch, body=concatenate([person(body, clip, frames) for clip in range(clips)]))


def person(body: BodyModel, clip: int, frames: int, mesh: bool = False) -> BodyMotion:
    """The person of a clip."""
    random = generator("motion", clip)
    phase = torch.arange(frames)[:, None] * 0.2
    turns = {name: 0.4 * torch.sin(phase + torch.randn(1, 3, generator=random)) for name in BODY_JOINTS}
    turns["pelvis"] = turns["pelvis"] + torch.tensor([0.0, 1.0 + clip, 0.0])
    shape = body.random_shape(numpy_generator("person", clip))
    return body.animate(Motion(rotations=turns, translation=0.3 * turns["left_hip"]), shape, mesh=mesh)


def root_mean_square(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())


def offsets(seen: ClipBatch) -> Tensor:
    """Observed less true places of the body's joints (B, T, 22, 3), millimetres."""
    assert seen.body is not None and seen.true_body is not None
    chosen = [seen.body.joint_names.index(name) for name in BODY_JOINTS]
    return 1000 * (seen.body.joints - seen.true_body.joints)[:, :, chosen]


def displaced(seen: ClipBatch) -> Tensor:
    """Distances (B, T, 22) of observed from true joints, millimetres."""
    return offsets(seen).norm(dim=-1)


def turned(seen: ClipBatch) -> Tensor:
    """Angles (B, T, 22) between observed and true rotations relative to the parent, degrees."""

    def local(body) -> Tensor:
        given = body.parameters["rotations"]
        return torch.stack([rotation_matrix(torch.stack([*relative(x).values()], dim=1)) for x in given])

    between = local(seen.true_body).mT @ local(seen.body)
    cosine = ((between.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).double().clamp(-1, 1)
    return torch.rad2deg(torch.acos(cosine))


def aligned(observed: Tensor, true: Tensor) -> Tensor:
    """Distances (..., J) of points (..., J, 3) after the similarity that brings them nearest (Procrustes)."""
    a, b = (x - x.mean(dim=-2, keepdim=True) for x in (observed.double(), true.double()))
    u, s, vh = torch.linalg.svd(a.mT @ b)
    sign = torch.ones_like(s)
    sign[..., -1] = torch.linalg.det(u @ vh)
    scale = (s * sign).sum(-1) / a.square().sum((-2, -1))
    return (scale[..., None, None] * a @ (u * sign[..., None, :] @ vh) - b).norm(dim=-1)


def in_picture(seen: ClipBatch) -> float:
    """Mean distance of joints in the first camera's picture, percent of the person's height there."""
    assert seen.body is not None and seen.true_body is not None
    pixels = [project(body.joints[:, None], seen.cameras[:, :1])[0] for body in (seen.body, seen.true_body)]
    height = (pixels[1][..., 1].amax(-1) - pixels[1][..., 1].amin(-1))[..., None]
    return float(100 * ((pixels[0] - pixels[1]).norm(dim=-1) / height).mean())


def sizes(seen: ClipBatch) -> list[float]:
    """The row of a clip that was observed with its mesh, in the order of ``HEADS``."""
    assert seen.body is not None and seen.true_body is not None
    off, (new, old) = offsets(seen), ((b.vertices, b.joints) for b in (seen.body, seen.true_body))
    assert new[0] is not None and old[0] is not None
    pelvis = 1000 * (new[1] - old[1])[:, :, :1]
    return [
        float((off - off[:, :, :1]).norm(dim=-1).mean()),
        1000 * float(aligned(new[1][:, :, :22], old[1][:, :, :22]).mean()),
        float((1000 * (new[0] - old[0]) - pelvis).norm(dim=-1).mean()),
        float(off[:, :, 0].norm(dim=-1).mean()),
        root_mean_square(turned(seen)[..., 1:]),
        in_picture(seen),
    ]


def of_presets() -> dict[str, list[list[float]]]:
    """1,000 frames, 20 clips of 50, of people of the Anny body who move all joints."""
    anny, found = Anny(Anny.Config()), {}
    for preset in PRESETS:
        choice = compose([f"fit={preset}"]).fit
        fit = choice.cls(choice.config, Context(body=anny))
        found[preset] = [sizes(fit.observe(_one(anny, clip))) for clip in range(20)]
    return found


def of_test_people(words: list[str]) -> list[list[float]]:
    """The test clips of a configuration."""
    clips = build_dataset(compose(words), "test")
    return [sizes(clips.load(index)) for index in range(len(clips))]


def main() -> None:
    """The presets; or, where words are given, what they make of the test people that they choose."""
    words = sys.argv[1:]
    found = {"test": of_test_people(words)} if words else of_presets()
    rows = [
        HEADS,
        *((name, *(f"{x:.1f}" for x in torch.tensor(of_clips).mean(0).tolist())) for name, of_clips in found.items()),
    ]
    print("\n".join(table(rows)))


def _one(body: BodyModel, number: int) -> ClipBatch:
    """Clip ``number`` of 50 frames, with its mesh."""
    batch = replace(tiny_batch(1, 1, 50, size=8), clip_id=(f"clip{number}",))
    return replace(batch, body=person(body, number, 50, mesh=True))


if __name__ == "__main__":
    main()
