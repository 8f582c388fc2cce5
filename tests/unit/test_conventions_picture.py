"""The picture of docs/conventions.md: one pose through several conventions, read as they are meant and as if all were one."""

import numpy as np
import pytest
import torch
from body_models import person_model
from PIL import Image, ImageDraw
from written_bodies import in_convention

from components.bodies.smplx import SmplX
from components.renderers.warp import Warp
from hvg.geometry.body_conventions import CONVENTIONS, BodyConvention
from hvg.geometry.body_parameters import BodyParameters, body_parameters
from hvg.geometry.rotations import axis_angle, rotation_matrix
from hvg.values.cameras import orbit

DRAWN = {
    "smplx_flat": CONVENTIONS["smplx_flat"],
    "amass (z up)": CONVENTIONS["amass"],
    "easymocap (Rh, Th)": BodyConvention(about="origin"),
    "y down": BodyConvention(up="-y"),
    "millimetres": BodyConvention(per_metre=1000),
}
HEIGHT, WIDTH, EDGE, TOP = 200, 160, 40, 18


def leaning(body):
    """A person who leans forward, turned to the side."""
    turns = {
        "left_shoulder": (0, 0, -1.1),
        "right_shoulder": (0, 0, 1.0),
        "right_elbow": (0, 1.2, 0),
        "left_hip": (-1.0, 0, 0.1),
        "left_knee": (0.9, 0, 0),
        "neck": (-0.4, 0, 0),
    }
    rotations = {joint: torch.tensor([turn], dtype=torch.float32) for joint, turn in turns.items()}
    side, forward = (rotation_matrix(torch.tensor([turn])) for turn in ((0.0, 0.6, 0.0), (0.9, 0.0, 0.0)))
    pelvis = body.file.rest_joints(torch.zeros(1, 10))[:, 0]
    return BodyParameters(
        family="smplx",
        rotations={**rotations, "pelvis": axis_angle(side @ forward)},
        betas=torch.zeros(1, 10),
        expression=torch.zeros(1, 10),
        translation=torch.tensor([[0.0, 0.95, 0.0]]) - pelvis,
        scale=torch.ones(1),
    )


def drawn(body, parameters):
    """(H, W, 3) uint8 of the lit mesh."""
    camera = orbit(
        torch.tensor([25.0]),
        elevation_degrees=8.0,
        distance=3.4,
        target=torch.tensor([0.0, 0.8, 0.0]),
        fov_degrees=30.0,
        image_size=(HEIGHT, WIDTH),
    )
    posed = body.pose(parameters)
    seen = Warp(Warp.Config()).render(posed.vertices[0], posed.faces, camera)
    light = 0.25 + 0.75 * (seen.normal[0] @ torch.tensor([-0.3, -0.5, -0.8])).clamp(0, 1)[..., None]
    colour = torch.where(seen.face[0, ..., None] >= 0, light * torch.tensor([0.55, 0.68, 0.85]), torch.tensor(0.97))
    return (255 * colour).byte().numpy()


def test_one_pose_is_drawn_alike_through_every_convention_and_otherwise_where_it_is_mistaken(tmp_path):
    np.savez(tmp_path / "SMPLX_NEUTRAL.npz", allow_pickle=True, **person_model("smplx"))
    body = SmplX(SmplX.Config(path=tmp_path))
    sheet = Image.new("RGB", (EDGE + WIDTH * len(DRAWN), TOP + 2 * HEIGHT), "white")
    pen, rows = ImageDraw.Draw(sheet), []
    for column, (name, convention) in enumerate(DRAWN.items()):
        written = in_convention(leaning(body), convention, body.file)
        rows.append(
            [drawn(body, body_parameters(written, c, body.file)) for c in (convention, CONVENTIONS["smplx_flat"])]
        )
        pen.text((EDGE + 4 + WIDTH * column, 3), name, fill="black")
        for row, picture in enumerate(rows[-1]):
            sheet.paste(Image.fromarray(picture), (EDGE + WIDTH * column, TOP + HEIGHT * row))
    pen.text((3, TOP + HEIGHT // 2), "read", fill="black")
    pen.text((3, TOP + HEIGHT + HEIGHT // 2), "taken\nfor\nsmplx", fill="black")
    sheet.quantize(64).save(tmp_path / "conventions.png", optimize=True)
    first = rows[0][0]
    for meant, mistaken in rows[1:]:
        # Rounding may light an edge otherwise.
        assert (np.abs(meant.astype(int) - first).max(-1) > 8).mean() < 0.002
        assert (mistaken != first).any(-1).mean() > 0.02
    assert (first != first[0, 0]).any(-1).mean() == pytest.approx(0.1, abs=0.07)
