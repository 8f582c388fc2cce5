"""The usual mistakes in cameras and bodies of footage, told by what explains the masks better than what the data say.

A mistake is called where the body as the data have it misses the mask, and would lie in it if the data had been meant another
way. Traps of published data sets: THuman, MVHumanNet, CustomHumans (their repositories' issues).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from hvg.core.required import required
from hvg.geometry.given_motion import SMPL_REST, SMPLX_REST
from hvg.geometry.motion import TO_Y_UP
from hvg.parts.scene import Renderer
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch

# Intersection over union that an explanation gains at least, and the share of what was missing that it explains at least. A
# person in loose clothes is missed by a bare body, too, so that the best explanation need not be near 1.
_GAIN, _EXPLAINED = 0.08, 0.3
# A camera is called bad where it sees less than this share of what the others see.
_BAD_CAMERA, _GOOD = 0.5, 0.4
# Views and frames that are compared, and pixels of the shorter side at which they are.
VIEWS, FRAMES, _SIDE = 4, 3, 128
# Factors by which a translation may be off: of units, and of a rig whose scale is told elsewhere.
_FACTORS = (1e3, 1e2, 1e1, 1e-1, 1e-2, 1e-3, 65 / 120, 120 / 65, *(2 ** (k / 8) for k in range(-16, 17) if k))
_STEPS = (5, 25)
_OPENGL = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))


@dataclass(frozen=True)
class Scene:
    """What is compared: vertices (T, P, 3) as cameras (V, T) see them, and covered (V, T, H, W) bool."""

    vertices: Tensor
    faces: Tensor
    cameras: Cameras
    covered: Tensor


@dataclass(frozen=True)
class Agreement:
    """How well body and mask agree. inside: share of the projected surface in the mask. overlap: intersection over union of
    every view, (V).
    """

    inside: float
    overlap: Tensor


def agreement(clip: ClipBatch, renderer: Renderer) -> Agreement:
    """That of a clip (B = 1) with alpha and a body with a mesh, over some of its frames."""
    clip = _smaller(clip)
    frames = spread(clip.grid[2], FRAMES)
    scene = scene_of(clip, range(clip.grid[1]), frames)
    return Agreement(inside_share(scene), _overlap(scene, renderer))


def mistake(clip: ClipBatch, renderer: Renderer) -> str:
    """What is wrong in all likelihood with a clip (B = 1) with alpha and a body with a mesh, "" for nothing."""
    clip = _smaller(clip)
    frames = spread(clip.grid[2], FRAMES)
    scene = scene_of(clip, spread(clip.grid[1], VIEWS), frames)
    return _best(scene, clip, renderer)


def bad_camera(overlap: Tensor, names: Sequence[str]) -> str:
    """The camera that does not see what the others see, "" for none. overlap: as of ``Agreement``, of cameras by name."""
    if len(overlap) < 3:
        return ""
    worst = int(overlap.argmin())
    others = float(torch.cat([overlap[:worst], overlap[worst + 1 :]]).median())
    if others < _GOOD or overlap[worst] > _BAD_CAMERA * others:
        return ""
    return (
        f"a bad camera: the body lies in the pictures of the others (overlap with the masks {others:.2f}), and not in those of "
        f"camera '{names[worst]}' ({float(overlap[worst]):.2f}); leave it out"
    )


def silhouettes(scene: Scene, renderer: Renderer) -> Tensor:
    """(V, T, H, W) bool: where the mesh is seen."""
    views, frames = scene.cameras.shape
    in_turn = Cameras(
        world_to_camera=scene.cameras.world_to_camera.transpose(0, 1).flatten(0, 1),
        intrinsics=scene.cameras.intrinsics.transpose(0, 1).flatten(0, 1),
        image_size=scene.cameras.image_size,
    )
    face = renderer.render(scene.vertices, scene.faces, in_turn).face
    return (face >= 0).unflatten(0, (frames, views)).transpose(0, 1)


def inside_share(scene: Scene) -> float:
    """Share of the body's surface, weighted by area, whose projection lies in the mask."""
    corners = scene.vertices[:, scene.faces]
    area = torch.linalg.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :]).norm(
        dim=-1
    )
    pixels, depth = _projected(corners.mean(dim=2), scene.cameras)
    height, width = scene.cameras.image_size
    column, row = pixels.floor().long().unbind(-1)
    seen = (depth > 0) & (column >= 0) & (row >= 0) & (column < width) & (row < height)
    place = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    covered = scene.covered.flatten(2).gather(2, place) & seen
    weight = area.expand(covered.shape)
    return float((covered * weight).sum() / weight.sum())


def _projected(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Pixels (V, T, N, 2) and depth (V, T, N) of points (T, N, 3)."""
    pose = cameras.world_to_camera
    seen = points[None] @ pose[..., :3, :3].mT + pose[..., None, :3, 3]
    depth = seen[..., 2]
    pixels = (seen @ cameras.intrinsics.mT)[..., :2] / depth[..., None].clamp_min(1e-6)
    return pixels.clamp(-1e6, 1e6), depth


def _smaller(clip: ClipBatch) -> ClipBatch:
    height, width = clip.cameras.image_size
    factor = next((f for f in range(max(1, min(height, width) // _SIDE), 0, -1) if not (height % f or width % f)), 1)
    return clip.shrunk(factor)


def spread(count: int, most: int) -> list[int]:
    """At most so many numbers below ``count``, evenly spread, the last among them."""
    return sorted({round(k) for k in torch.linspace(0, count - 1, min(count, most)).tolist()})


def scene_of(
    clip: ClipBatch, views: Sequence[int], frames: Sequence[int], bodies: Sequence[float] | None = None
) -> Scene:
    """Some pictures of a clip with their bodies, or those of other frames; between two, a body is in between."""
    body = required(clip.target_body, "ClipBatch.body")
    places = torch.tensor([float(place) for place in (frames if bodies is None else bodies)])
    vertices = required(body.vertices, "BodyMotion.vertices")[0]
    before, after = places.floor().long(), places.ceil().long()
    part = clip.cameras[0][list(views)]
    return Scene(
        torch.lerp(vertices[before], vertices[after], (places - before)[:, None, None]),
        required(body.faces, "BodyMotion.faces"),
        part[:, list(frames)],
        required(clip.alpha, "ClipBatch.alpha")[0, list(views)][:, list(frames), 0] > 0.5,
    )


def _overlap(scene: Scene, renderer: Renderer) -> Tensor:
    """Intersection over union of body and mask in every view, (V)."""
    seen = silhouettes(scene, renderer)
    both, either = (seen & scene.covered).sum((1, 2, 3)), (seen | scene.covered).sum((1, 2, 3))
    return both / either.clamp_min(1)


def _best(scene: Scene, clip: ClipBatch, renderer: Renderer) -> str:
    """The mistake that explains the masks best, where it does so much better than what the data say."""
    stated = float(_overlap(scene, renderer).mean())
    best, found = stated, ""
    for name, told, other in _explanations(scene, clip):
        compared = stated if told is scene else float(_overlap(told, renderer).mean())
        fits = float(_overlap(other, renderer).mean())
        enough = fits - compared > max(_GAIN, _EXPLAINED * (1 - compared))
        if enough and fits - compared > best - stated:
            best, found = (
                stated + fits - compared,
                f"{name} (overlap with the masks {compared:.2f}, and {fits:.2f} if so)",
            )
    return found


def _explanations(scene: Scene, clip: ClipBatch) -> Iterator[tuple[str, Scene, Scene]]:
    """What may be wrong, the scene as the data have it, and as it was meant then."""
    for name, cameras in _other_cameras(scene.cameras):
        yield name, scene, replace(scene, cameras=cameras)
    views, frames = spread(clip.grid[1], VIEWS), spread(clip.grid[2], FRAMES)
    for name, moved in _other_bodies(required(clip.target_body, "ClipBatch.body"), frames):
        yield name, scene, replace(scene, vertices=moved(scene.vertices))
    yield (
        "pictures mirrored: left and right of pictures and masks are exchanged",
        scene,
        replace(scene, covered=scene.covered.flip(-1)),
    )
    for step in _STEPS:
        last = (clip.grid[2] - 1) // step
        early = [frame for frame in spread(last + 1, FRAMES) if frame]
        if early:
            name = f"pictures are every {_nth(step)} frame of the bodies: dataset.picture_every={step}"
            told = scene_of(clip, views, early)
            yield name, told, scene_of(clip, views, early, [step * frame for frame in early])
        late = [frame for frame in frames if frame]
        if late:
            name = f"bodies are of every {_nth(step)} picture: dataset.body_every={step}"
            told = scene_of(clip, views, late)
            yield name, told, scene_of(clip, views, late, [frame / step for frame in late])


def _nth(step: int) -> str:
    return f"{step}th"


def _other_cameras(cameras: Cameras) -> Iterator[tuple[str, Cameras]]:
    pose, lens = cameras.world_to_camera, cameras.intrinsics
    axes = _OPENGL.to(pose)
    yield (
        "OpenGL axes: the cameras look along -z with y up, and are read as if along z",
        replace(cameras, world_to_camera=axes @ pose),
    )
    back = torch.linalg.inv(pose)
    yield "matrices are camera to world, and are read as world to camera", replace(cameras, world_to_camera=back)
    yield "OpenGL axes, and matrices are camera to world", replace(cameras, world_to_camera=axes @ back)
    for factor in _FACTORS:
        moved = pose.clone()
        moved[..., :3, 3] *= factor
        name = f"camera translation not scaled: it fits when multiplied by {factor:.4g}"
        yield name, replace(cameras, world_to_camera=moved)
    for factor, told in ((2.0, "half-size intrinsics: they"), (0.5, "half-size pictures: the intrinsics")):
        scaled = lens.clone()
        scaled[..., :2, :] *= factor
        yield (
            f"{told} are for pictures {'half' if factor == 2 else 'twice'} as large as these",
            replace(cameras, intrinsics=scaled),
        )


class _Moved:
    """Points turned about the world's origin or mirrored, then shifted."""

    def __init__(self, turn: Tensor, shift: Tensor) -> None:
        self._turn, self._shift = turn, shift

    def __call__(self, points: Tensor) -> Tensor:
        return points @ self._turn.mT + self._shift


def _other_bodies(body: BodyMotion, frames: Sequence[int]) -> Iterator[tuple[str, _Moved]]:
    same, none = torch.eye(3), torch.zeros(1, 1, 3)
    for name, turn in (("z", TO_Y_UP["z"]), ("-y", TO_Y_UP["-y"])):
        for way in {"z": (turn, turn.mT), "-y": (turn,)}[name]:
            yield f"another axis is up: dataset.body_up (or up), {name} perhaps", _Moved(way, none)
    left, right, pelvis = (body.place(joint)[0, frames] for joint in ("left_hip", "right_hip", "pelvis"))
    across = normalize(left - right, dim=-1)
    mirror = same - 2 * across[..., :, None] * across[..., None, :]
    yield (
        "person mirrored: left and right of the body are exchanged",
        _Moved(mirror, (pelvis - (mirror @ pelvis[..., None])[..., 0])[:, None]),
    )
    turned = (
        body.parameters["rotations"][0, frames, 0] if "rotations" in body.parameters else same.expand(len(frames), 3, 3)
    )
    for rest in (SMPLX_REST, SMPL_REST):
        still = rest.origin.expand(len(frames), 3)
        ridden = (turned @ rest.origin[:, None])[..., 0]
        # Of a turn about the pelvis, and not about the origin as EasyMocap's R and Th, in a world in which any axis is up.
        turns = [ridden - turn @ rest.origin for turn in TO_Y_UP.values()]
        for shift in (still, ridden, rest.standing.expand(len(frames), 3), *turns):
            for sign in (1, -1):
                yield (
                    "pelvis offset forgotten: the translation is meant to be from another point of the body, as EasyMocap's Th, "
                    f"{float(shift.norm(dim=-1).mean()):.2f} m away; see dataset.convention",
                    _Moved(same, sign * shift[:, None]),
                )
