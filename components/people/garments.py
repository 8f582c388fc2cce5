"""Loose clothes whose surface leaves the body: a skirt, or the open lower half of a long coat.

The cloth is a stack of rings. Rings from waist to hips keep to the pelvis. Every lower ring is the hull of what it has
to hold at its distance down the cloth: both thighs, the shins, and the cloth's own hanging shape; hulls are taken as a
soft maximum of support points, so the surface stays smooth. The cloth then follows its own past with a lag that grows
towards the hem, outward only, so it trails behind moving legs and never sinks into them. All of that is a function of
the joints from the clip's first frame on: a clip is always simulated whole.
"""

from dataclasses import dataclass

import numpy as np

_EASE_METRES = 0.018
_SOFTNESS_METRES = 0.02


@dataclass(frozen=True)
class Skirt:
    """A skirt at rest, relative to the pelvis; R rings of M points.

    directions: (M, 3) unit, horizontal. support: (R, M) distance of the hanging cloth from the axis, metres.
    axis: (R, 3) centre of every ring. below: (R,) distance down the legs from the hip joints, 0 for rings above.
    leg_radius: (R,). down: (R,) 0 at the hips, 1 at the hem. lag: share of the last frame that the hem keeps.
    upright: (3, 3) ``pelvis_axes`` at rest.
    """

    directions: np.ndarray
    support: np.ndarray
    axis: np.ndarray
    below: np.ndarray
    leg_radius: np.ndarray
    down: np.ndarray
    lag: float
    upright: np.ndarray

    @property
    def rest(self) -> np.ndarray:
        """Texture coordinates (R * M, 3): metres around, metres down from the waist, 0."""
        rings, points = self.support.shape
        around = np.linspace(-np.pi, np.pi, points) * self.support[rings // 2].mean()
        down = self.axis[:, 1]
        return np.stack(np.broadcast_arrays(around[None], down[:, None], 0.0), axis=-1).reshape(-1, 3)

    @property
    def faces(self) -> np.ndarray:
        """(F, 3); where the first point meets the last lies a skirt's seam, at the back, or a coat's opening."""
        rings, points = self.support.shape
        row, column = np.mgrid[0 : rings - 1, 0 : points - 1]
        a = (row * points + column).ravel()
        b, c, d = a + 1, a + points, a + points + 1
        return np.concatenate([np.stack([a, c, b], -1), np.stack([b, c, d], -1)])


def make_skirt(
    vertices: np.ndarray,
    joints: dict[str, np.ndarray],
    generator: np.random.Generator,
    *,
    hem: float,
    flare: float,
    folds: float,
    gap: float = 0.0,
    top: float = 0.11,
    ease: float = _EASE_METRES,
) -> Skirt:
    """Cuts a skirt for a body in its rest pose.

    vertices: (P, 3), joints: name -> (3,), both at rest in metres. hem: share of the leg that is covered, 1 at the
    ankle.
    flare: metres by which the hem stands off the legs' hull. folds: metres of its waves. gap: half the angle in
    radians that stays open at the front, 0 for a closed skirt. top: metres above the pelvis.
    """
    pelvis = joints["pelvis"]
    relative = {name: joint - pelvis for name, joint in joints.items()}
    hip, knee, ankle = (relative[f"left_{name}"] for name in ("hip", "knee", "ankle"))
    leg = float(np.linalg.norm(knee - hip) + np.linalg.norm(ankle - knee))
    below = np.concatenate([np.zeros(6), np.linspace(0, hem * leg, 18)[1:]])
    height = np.concatenate([np.linspace(top, hip[1], 6), hip[1] - below[6:]])
    # Points go round from the back; a coat starts and ends at the edges of its front opening instead.
    start = np.pi if gap else 0.0
    angle = np.linspace(start + gap, start + 2 * np.pi - gap, 57) + np.pi
    directions = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], axis=-1)
    body = vertices - pelvis
    trunk = body[np.abs(body[:, 0]) < abs(relative["left_shoulder"][0]) + 0.03]
    axis = np.stack([np.zeros_like(height), height, np.zeros_like(height)], axis=-1)
    support = np.stack([_support(trunk, y, directions) for y in height])
    upper = np.maximum.accumulate(support, axis=0)
    keep = height > hip[1] - 0.09
    support = np.where(keep[:, None], upper, np.maximum(support, upper[keep][-1] * 0.97))
    down = np.clip((hip[1] + 0.02 - height) / (hip[1] - height[-1]), 0, 1)
    waves = np.cos(angle * generator.integers(6, 10) + generator.uniform(0, 6)) * folds
    # The waistband lies against the body; below it the cloth stands off.
    ease_by_height = np.interp(height, [hip[1], top], [ease, min(ease, 0.012)])
    support = support + ease_by_height[:, None] + down[:, None] * flare + (down[:, None] ** 1.3) * waves
    return Skirt(
        directions=directions.astype(np.float32),
        support=support.astype(np.float32),
        axis=axis.astype(np.float32),
        below=below.astype(np.float32),
        leg_radius=_leg_radius(body, relative, below).astype(np.float32) + 0.018,
        down=down.astype(np.float32),
        lag=float(generator.uniform(0.35, 0.65)),
        upright=pelvis_axes({name: joint[None] for name, joint in joints.items()})[0],
    )


def _support(points: np.ndarray, height: float, directions: np.ndarray) -> np.ndarray:
    """(M,) how far the body reaches in every direction within 2.5 cm of a height."""
    slab = points[np.abs(points[:, 1] - height) < 0.025]
    return (slab @ directions.T).max(axis=0)


def _leg_radius(body: np.ndarray, joints: dict[str, np.ndarray], below: np.ndarray) -> np.ndarray:
    """(R,) largest distance of the left leg's skin from its bones, by distance down the leg.

    Above 0.16 m, where thigh and trunk are one, it tapers off instead: there the cloth is held by the hips.
    """
    radii = []
    for distance in np.maximum(below, 0.16):
        centre = _leg_point({name: joint[None] for name, joint in joints.items()}, "left", distance)[0]
        near = (np.abs(body[:, 1] - centre[1]) < 0.025) & (body[:, 0] > 0.005)
        reach = np.linalg.norm((body[near] - centre)[:, [0, 2]], axis=1)
        radii.append(np.quantile(reach, 0.95))
    return np.array(radii) * np.interp(below, [0.0, 0.16], [0.6, 1.0])


def _leg_point(joints: dict[str, np.ndarray], side: str, distance: float, hanging: float = 0.0) -> np.ndarray:
    """(T, 3): the point ``distance`` metres down a leg; ``hanging`` turns what is below the knee straight down."""
    hip, knee, ankle = (joints[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
    thigh = np.linalg.norm(knee - hip, axis=-1, keepdims=True)
    shin = _unit(_unit(ankle - knee) * (1 - hanging) + np.array([0.0, -1.0, 0.0]) * hanging)
    return np.where(distance < thigh, hip + (knee - hip) / thigh * distance, knee + shin * (distance - thigh))


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-8)


def _swing(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(T, 3, 3): smallest rotation between unit vectors (T, 3) that are not opposite."""
    axis = np.cross(start, end)
    cosine = (start * end).sum(-1)[:, None, None]
    identity = np.eye(3, dtype=axis.dtype)
    # The matrix of the cross product with the axis.
    cross = np.cross(identity, axis[:, None])
    return identity + cross + cross @ cross / (1 + cosine).clip(0.05)


def drape(skirt: Skirt, joints: dict[str, np.ndarray]) -> np.ndarray:
    """Vertices (T, R * M, 3) of the cloth on a moving person; joints: name -> (T, 3) metres, frame after frame."""
    pelvis_turn = pelvis_axes(joints) @ skirt.upright.T
    pelvis = joints["pelvis"]
    down = -pelvis_turn[:, :, 1]
    around = np.einsum("tij,mj->tmi", pelvis_turn, skirt.directions)
    centre = pelvis[:, None] + np.einsum("tij,rj->tri", pelvis_turn, skirt.axis)
    hanging = centre[:, :, None] + around[:, None] * skirt.support[None, :, :, None]
    thighs = {side: _unit(joints[f"{side}_knee"] - joints[f"{side}_hip"]) for side in ("left", "right")}
    swings = {side: _swing(down, thigh) for side, thigh in thighs.items()}
    mean_swing = _swing(down, _unit(thighs["left"] + thighs["right"]))
    ring = np.einsum("tij,tmj->tmi", mean_swing, around)
    held = hanging.copy()
    for r in np.flatnonzero(skirt.below > 0):
        held[:, r] = _hull(skirt, joints, r, hanging[:, r], around, ring, swings)
    return _trail(skirt, held, ring).reshape(len(pelvis), -1, 3).astype(np.float32)


def pelvis_axes(joints: dict[str, np.ndarray]) -> np.ndarray:
    """(T, 3, 3), columns: the person's left, up and forward, from hips and lower spine."""
    left = _unit(joints["left_hip"] - joints["right_hip"])
    forward = _unit(np.cross(left, joints["spine1"] - joints["pelvis"]))
    return np.stack([left, np.cross(forward, left), forward], axis=-1)


def _hull(skirt, joints, r, hanging, around, ring, swings) -> np.ndarray:
    """(T, M, 3): ring ``r`` around what it has to hold, in directions ``ring`` (T, M, 3)."""
    distance, stand_off = skirt.below[r], skirt.support[r] - skirt.support[r].mean()
    flare = skirt.down[r] * 0.5 * (skirt.support[-1].mean() - skirt.support[6].mean()).clip(0)
    points = []
    for side, swing in swings.items():
        outward = np.einsum("tij,tmj->tmi", swing, around)
        for hang in (0.75, 0.0):
            centre = _leg_point(joints, side, distance, hang)
            reach = skirt.leg_radius[r] + (flare + 0.4 * stand_off.clip(-0.03, 0.03) if hang else 0.0)
            points.append(centre[:, None] + outward * np.reshape(reach * np.ones(len(stand_off)), (1, -1, 1)))
    # The hanging shape holds near the hips and gives way to the legs, unless they hang straight anyway.
    points.append(hanging)
    stacked = np.stack(points)
    origin = 0.5 * (_leg_point(joints, "left", distance, 0.75) + _leg_point(joints, "right", distance, 0.75))
    value = ((stacked - origin[None, :, None]) * ring[None]).sum(-1)
    weight = np.exp((value - value.max(axis=0)) / _SOFTNESS_METRES)
    weight /= weight.sum(axis=0)
    return (weight[..., None] * stacked).sum(axis=0)


def _trail(skirt: Skirt, held: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """The cloth (T, R, M, 3) that follows ``held`` with a lag, but never lies inside it."""
    keep = (skirt.lag * skirt.down**1.5)[:, None, None]
    trailing, last = [held[0]], held[0]
    for now, outward in zip(held[1:], ring[1:], strict=True):
        last = (1 - keep) * now + keep * last
        lead = ((last - now) * outward[None]).sum(-1, keepdims=True).clip(0.0, 0.15)
        trailing.append(now + lead * outward[None])
    return np.stack(trailing)
