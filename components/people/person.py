"""A dressed person: look, geometry over the bare body, and the colour of every surface point.

Works with any body model: regions of the body are found from its T-pose, where arms lie along x and legs along y. All
surface patterns are functions of T-pose coordinates that are interpolated at the hit point, so they are crisp at any
resolution.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hvg.core.required import required
from hvg.geometry.body_parts import code_regions, vertex_codes
from hvg.values.body import BodyMotion
from hvg.values.scored_clip import REGIONS

from .garments import Skirt, drape, make_skirt
from .textures import HAIR_COLOURS, SKIN_TONES, Cloth, cloth, muted

BODY, HAIR, GARMENT = 0, 1, 2
GARMENTS = ("none", "skirt", "coat")


@dataclass(frozen=True)
class Look:
    """Clothes, hair and colours of a person, drawn once per subject.

    sleeve: share of the arm covered (0 sleeveless, 1 to the wrist). leg: share of the leg covered by trousers.
    neckline: metres the front of the shirt is cut below the neck. hair: ``short``, ``long``, ``bun`` or ``tail``.
    """

    skin: np.ndarray
    hair_colour: np.ndarray
    hair: str
    shirt: Cloth
    sleeve: float
    neckline: float
    trousers: np.ndarray
    leg: float
    shoes: np.ndarray
    garment: str
    garment_cloth: Cloth


def sample_look(generator: np.random.Generator) -> Look:
    """A random look; colours are independent of build and motion, so only a photo tells them."""
    tone = generator.uniform(0, len(SKIN_TONES) - 1)
    low = int(tone)
    skin = SKIN_TONES[low] + (tone - low) * (SKIN_TONES[min(low + 1, len(SKIN_TONES) - 1)] - SKIN_TONES[low])
    garment = str(generator.choice(GARMENTS, p=[0.4, 0.35, 0.25]))
    leg = float(generator.choice([0.4, 0.97], p=[0.35, 0.65]))
    bare_legs = garment == "skirt" and generator.uniform() < 0.6
    return Look(
        skin=skin,
        hair_colour=HAIR_COLOURS[generator.integers(len(HAIR_COLOURS))] * generator.uniform(0.85, 1.15),
        hair=str(generator.choice(["short", "long", "bun", "tail"], p=[0.4, 0.25, 0.15, 0.2])),
        shirt=cloth(generator),
        sleeve=float(generator.choice([0.02, generator.uniform(0.28, 0.42), 0.96], p=[0.2, 0.45, 0.35])),
        neckline=float(generator.uniform(0.0, 0.09)),
        trousers=cloth(generator).first if generator.uniform() < 0.5 else muted(generator),
        leg=0.12 if bare_legs else leg,
        shoes=muted(generator) if generator.uniform() < 0.6 else cloth(generator).first,
        garment=garment,
        garment_cloth=cloth(generator, ("plain", "plain", "stripes", "bars", "checks")),
    )


class Person:
    """Geometry and paint of one dressed person.

    faces: (F, 3) int64 over body, hair and garment vertices together. regions: (F,) int64, as of ``Surface``.
    """

    def __init__(self, rest: BodyMotion, look: Look, generator: np.random.Generator) -> None:
        """rest: the bare body in its T-pose, B = T = 1, with mesh."""
        self.look = look
        self.rest = required(rest.vertices, "BodyMotion.vertices")[0, 0].numpy().astype(np.float32)
        self.joints = dict(zip(rest.joint_names, rest.joints[0, 0].numpy(), strict=True))
        self.body_faces = required(rest.faces, "BodyMotion.faces")
        above = self.rest[:, 1] > self.joints["head"][1] - 0.02
        self._head = np.flatnonzero(above & (np.abs(self.rest[:, 0]) < 0.2))
        self._offset = self._offsets().astype(np.float32)
        self._hair_vertices, hair_faces = _hair_mesh(look.hair, self.joints)
        self._skirt = self._cut(generator)
        self.faces, self._surface, self._texture = self._assemble(self.body_faces.numpy(), hair_faces)
        self.regions = None if rest.skinning is None else self._regions_of_faces(vertex_codes(rest.skinning))

    def _cut(self, generator: np.random.Generator) -> Skirt | None:
        if self.look.garment == "skirt":
            return make_skirt(
                self.rest, self.joints, generator, hem=generator.uniform(0.45, 0.85),
                flare=generator.uniform(0.04, 0.12), folds=generator.uniform(0.0, 0.018),
            )  # fmt: skip
        if self.look.garment == "coat":
            return make_skirt(
                self.rest, self.joints, generator, hem=generator.uniform(0.5, 0.8), flare=generator.uniform(0.02, 0.07),
                folds=generator.uniform(0.0, 0.01), gap=generator.uniform(0.12, 0.3), top=0.14, ease=0.03,
            )  # fmt: skip
        return None

    def _assemble(self, body: np.ndarray, hair: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """Faces of everything, the surface every face belongs to, and texture coordinates (P', 3) of every vertex."""
        faces, surface = [body, hair + len(self.rest)], [np.full(len(body), BODY), np.full(len(hair), HAIR)]
        texture = [self.rest, self._hair_vertices]
        if self._skirt is not None:
            faces.append(self._skirt.faces + len(self.rest) + len(self._hair_vertices))
            surface.append(np.full(len(faces[-1]), GARMENT))
            texture.append(self._skirt.rest)
        return torch.from_numpy(np.concatenate(faces)).long(), np.concatenate(surface), np.concatenate(texture)

    def _regions_of_faces(self, codes: torch.Tensor) -> torch.Tensor:
        """codes: (P, 3) of the bare body's vertices. A face is of what its first corner is of."""
        loose, head = (torch.full((len(self._surface),), REGIONS.index(name)) for name in ("loose", "head"))
        regions = torch.where(torch.from_numpy(self._surface == HAIR), head, loose)
        regions[: len(self.body_faces)] = code_regions(codes)[self.body_faces[:, 0]]
        # Hair that lies on the skull hangs down over neck and shoulders.
        hair = self._hair_depth(self.rest[self.body_faces[:, 0].numpy()]) > 0
        regions[: len(self.body_faces)][torch.from_numpy(hair)] = REGIONS.index("head")
        return regions

    def vertices(self, body: BodyMotion, normals: torch.Tensor) -> torch.Tensor:
        """(T, P', 3) world metres for a moving body (B = 1, with mesh) whose vertex normals are (T, P, 3)."""
        posed = required(body.vertices, "BodyMotion.vertices")[0]
        parts = [posed + normals * torch.from_numpy(self._offset)[:, None]]
        turn, shift = _rigid(self.rest[self._head], posed[:, self._head].numpy())
        parts.append(torch.from_numpy(self._hair_vertices @ turn.transpose(0, 2, 1) + shift[:, None]))
        if self._skirt is not None:
            joints = dict(zip(body.joint_names, body.joints[0].numpy().swapaxes(0, 1), strict=True))
            parts.append(torch.from_numpy(drape(self._skirt, joints)))
        return torch.cat([part.float() for part in parts], dim=1)

    def colour(self, face: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        """sRGB (N, 3) in [0, 1] of surface points given by face (N,) and weights of its corners (N, 3)."""
        corners = self._texture[self.faces.numpy()[face]]
        point = (corners * barycentric[:, :, None]).sum(axis=1)
        surface = self._surface[face]
        result = np.empty((len(face), 3))
        body = surface == BODY
        result[body] = self._body_colour(point[body])
        result[surface == HAIR] = self.look.hair_colour
        cloth_points = point[surface == GARMENT]
        result[surface == GARMENT] = self.look.garment_cloth.colour(
            cloth_points[:, 0], cloth_points[:, 1], np.zeros(len(cloth_points), dtype=bool)
        )
        return result

    def _body_colour(self, point: np.ndarray) -> np.ndarray:
        regions = self._regions(point)
        look, chest = self.look, 0.6 * self.joints["spine3"][1] + 0.4 * self.joints["spine2"][1]
        colour = np.tile(look.skin, (len(point), 1))
        x, y, z = point.T
        across = np.where(regions["arm"], np.abs(x), x)
        # Stripes run around an arm too: there the length along it takes the place of the height.
        along = np.where(regions["arm"], np.abs(x), y - chest)
        colour[regions["shirt"]] = look.shirt.colour(across, along, (z > 0.02) & ~regions["arm"])[regions["shirt"]]
        colour[regions["trousers"]] = look.trousers
        colour[regions["shoes"]] = look.shoes
        colour[regions["coat"]] = look.garment_cloth.colour(across, along, z > 0.02)[regions["coat"]]
        colour[regions["seat"]] = look.garment_cloth.first
        colour = self._face_colour(colour, point)
        colour[self._hair_depth(point) > 0] = look.hair_colour
        return colour

    def _regions(self, point: np.ndarray) -> Mapping[str, np.ndarray]:
        """Regions of the body by name, such as shirt or arm, as flags (N,) over the T-pose points."""
        look, joints = self.look, self.joints
        x, y, z = np.abs(point[:, 0]), point[:, 1], point[:, 2]
        shoulder, wrist, neck = joints["left_shoulder"], joints["left_wrist"], joints["neck"]
        above_waist = y > joints["pelvis"][1] + 0.07
        arm = above_waist & (x > shoulder[0]) & (y > shoulder[1] - 0.2)
        front = np.clip((z - neck[2] + 0.02) / 0.05, 0, 1)
        collar = neck[1] + 0.005 - front * (0.03 + look.neckline * np.clip(1 - x / 0.09, 0, 1))
        trunk = above_waist & (y < collar)
        legs = y < joints["pelvis"][1] + 0.07
        leg_length = joints["left_hip"][1] - joints["left_ankle"][1]
        shoes = y < joints["left_ankle"][1] + 0.012
        coat = np.zeros(len(point), dtype=bool)
        if look.garment == "coat":
            open_front = (z > neck[2]) & (x < 0.035 + 0.25 * np.clip(y - joints["spine2"][1], 0, 1))
            sleeve = x < shoulder[0] + 0.95 * (wrist[0] - shoulder[0])
            coat = (y > joints["pelvis"][1] - 0.02) & (y < neck[1] + 0.01) & sleeve & ~open_front
        # Under a skirt the seat is painted like the skirt, so that a crease of the cloth shows no spot of another
        # colour.
        seat = legs & (y > joints["left_hip"][1] - 0.2) if look.garment == "skirt" else np.zeros(len(point), dtype=bool)
        return {
            "arm": arm,
            "seat": seat,
            "coat": coat,
            "shirt": trunk & (x < shoulder[0] - 0.02 + look.sleeve * (wrist[0] - shoulder[0])),
            "trousers": legs & (y > joints["left_hip"][1] - look.leg * leg_length) & ~shoes,
            "shoes": shoes,
        }

    def _offsets(self) -> np.ndarray:
        """(P,) metres by which cloth and hair stand off the skin."""
        regions = self._regions(self.rest)
        offset = np.zeros(len(self.rest))
        for name, thickness in (("shirt", 0.007), ("trousers", 0.008), ("shoes", 0.006), ("coat", 0.02)):
            offset[regions[name]] = thickness
        depth = self._hair_depth(self.rest)
        return np.where(depth > 0, 0.006 + 0.022 * np.clip(depth / 0.35, 0, 1), offset)

    def _head_coordinates(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Head-sized coordinates: to the person's left, up from the skull's base (1 at the top), forward (-1 to 1)."""
        base, top = self.joints["head"], self.joints["head_top"]
        length = top[1] - base[1]
        z = self.rest[self._head, 2]
        middle, half = 0.5 * (z.min() + z.max()), 0.5 * (z.max() - z.min())
        return point[:, 0] / length, (point[:, 1] - base[1]) / length, (point[:, 2] - middle) / half

    def _hair_depth(self, point: np.ndarray) -> np.ndarray:
        """(N,) height above the hairline in head lengths, negative where there is skin."""
        x, up, forward = self._head_coordinates(point)
        nape = -0.35 if self.look.hair == "short" else -0.5
        line = np.interp(forward, [-1.0, -0.25, 0.05, 0.45, 1.0], [nape, 0.0, 0.45, 0.80, 0.88])
        return np.where((np.abs(x) < 0.75) & (up > -0.6), up - line, -1.0)

    def _face_colour(self, colour: np.ndarray, point: np.ndarray) -> np.ndarray:
        """Eyes, brows, lips and a hint of a nose, painted on the front of the head."""
        x, up, forward = self._head_coordinates(point)
        on_face = (forward > 0.2) & (up > -0.5) & (up < 0.9)
        eye = on_face & ((((np.abs(x) - 0.2) / 0.085) ** 2 + ((up - 0.27) / 0.05) ** 2) < 1)
        brow = on_face & (np.abs(np.abs(x) - 0.21) < 0.11) & (np.abs(up - 0.40) < 0.03)
        mouth = on_face & (((x / 0.16) ** 2 + ((up + 0.17) / 0.045) ** 2) < 1)
        pupil = eye & (np.abs(np.abs(x) - 0.2) < 0.04)
        colour[eye] = (0.93, 0.93, 0.92)
        colour[pupil] = (0.12, 0.09, 0.08)
        colour[brow] = 0.8 * self.look.hair_colour
        colour[mouth] = 0.55 * self.look.skin + np.array([0.32, 0.08, 0.10])
        return colour


def _rigid(start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (T, 3, 3) and shifts (T, 3) that best take points (P, 3) to (T, P, 3). Source: Kabsch, 1976."""
    centre, centres = start.mean(axis=0), end.mean(axis=1)
    covariance = np.einsum("tpi,pj->tij", end - centres[:, None], start - centre)
    left, _, right = np.linalg.svd(covariance)
    sign = np.ones((len(end), 1, 3), dtype=start.dtype)
    sign[:, 0, 2] = np.sign(np.linalg.det(left @ right))
    turn = (left * sign) @ right
    return turn, centres - turn @ centre


def _hair_mesh(style: str, joints: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (P, 3) in the T-pose and faces (F, 3) of hair beyond what covers the skull; empty for short hair."""
    base, top = joints["head"], joints["head_top"]
    length = top[1] - base[1]
    # Centre relative to the skull's base, and semi-axes, in head lengths.
    blobs = {
        "short": [],
        "long": [((0.0, -0.05, -0.42), (0.56, 0.85, 0.26)), ((0.0, -0.55, -0.5), (0.5, 0.65, 0.2))],
        "bun": [((0.0, 0.85, -0.55), (0.32, 0.32, 0.32))],
        "tail": [((0.0, 0.5, -0.85), (0.2, 0.2, 0.2)), ((0.0, -0.1, -0.98), (0.2, 0.75, 0.18))],
    }[style]
    vertices, faces = [np.zeros((0, 3), dtype=np.float32)], [np.zeros((0, 3), dtype=np.int64)]
    for centre, axes in blobs:
        ball, triangles = _ball()
        faces.append(triangles + sum(len(part) for part in vertices))
        vertices.append((base + length * (np.array(centre) + ball * np.array(axes))).astype(np.float32))
    return np.concatenate(vertices), np.concatenate(faces)


def _ball(rings: int = 9, points: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere: vertices (P, 3), faces (F, 3) that face outward."""
    polar, around = np.meshgrid(np.linspace(0, np.pi, rings), np.arange(points) / points * 2 * np.pi, indexing="ij")
    vertices = np.stack([np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], axis=-1)
    row, column = np.mgrid[0 : rings - 1, 0:points]
    a, b = (row * points + column).ravel(), (row * points + (column + 1) % points).ravel()
    c, d = a + points, b + points
    return vertices.reshape(-1, 3), np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])
