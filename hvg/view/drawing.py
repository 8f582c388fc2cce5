"""What a moment of a scene looks like on the page, layer by layer; a layer that nobody looks at is not sent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import viser

from hvg.view.scene import Moment, Scene, ShownCamera

# In the order of their boxes; those that are looked at first.
LAYERS = ("body", "ellipsoids", "skeleton", "cameras", "pictures", "names", "floor")
FIRST = ("body", "skeleton", "cameras", "pictures", "floor")
# Of a body that something is seen through: within it, or beside it.
SEEN_THROUGH = 0.45
# Widths of lines, metres; of a camera as a share of the distance to its picture.
BONE_WIDTH, JOINT_WIDTH, EDGE_SHARE = 0.016, 0.034, 0.022
DARK, CHOSEN, FLOOR = (52, 58, 70), (240, 130, 20), (214, 218, 224)


@dataclass(frozen=True)
class _Node:
    """Something on the page. figure: whose it is, None for nobody's. update: brings it to a moment; False where that has none."""

    layer: str
    figure: str | None
    handle: Any
    update: Callable[[Moment], bool]


class Drawing:
    """The nodes of a scene. layers, figures: those that are looked at. chosen: the camera in another colour, None for none."""

    def __init__(self, api: viser.SceneApi, scene: Scene, first: Moment) -> None:
        self._api, self._scene = api, scene
        self.layers, self.figures = {*FIRST}, {person.name for person in scene.figures}
        self.chosen: int | None = None
        grid = api.add_grid("/floor", 8, 8, plane="xz", cell_size=0.5, position=(0, scene.floor, 0), cell_color=FLOOR)
        self._nodes = [*self._people(first), *self._cameras(first), _Node("floor", None, grid, lambda moment: True)]

    def present(self) -> list[str]:
        """The layers that the scene has something of."""
        found = {node.layer for node in self._nodes}
        if all(pictures is None for pictures in self._scene.pictures):
            found -= {"pictures"}
        return [layer for layer in LAYERS if layer in found]

    def show(self, moment: Moment) -> None:
        """Brings all that is looked at to a moment."""
        through = bool({"ellipsoids", "skeleton"} & self.layers) or len(self.figures) > 1
        for node in self._nodes:
            seen = node.layer in self.layers and node.figure in (None, *self.figures)
            node.handle.visible = seen and node.update(moment)
            if node.layer == "body":
                node.handle.opacity = SEEN_THROUGH if through else None

    def _people(self, first: Moment) -> Iterator[_Node]:
        for number, (person, shown) in enumerate(zip(self._scene.figures, first.figures, strict=True)):
            place, colours = f"/people/{number}", person.bone_colours()
            if shown.mesh is not None and person.faces is not None:
                faces = person.faces.numpy()
                mesh = self._api.add_mesh_simple(f"{place}/body", shown.mesh, faces, color=person.colour, side="double")
                yield _Node("body", person.name, mesh, partial(_move_mesh, mesh, number))
            if shown.ellipsoids is not None and shown.bones is not None:
                balls = shown.ellipsoids
                vertices, faces = unit_ball()
                many = self._api.add_batched_meshes_simple(
                    f"{place}/ellipsoids",
                    vertices,
                    faces,
                    balls.rotation,
                    balls.center,
                    batched_scales=balls.half_axes,
                    batched_colors=colours,
                    lod="off",
                )
                yield _Node("ellipsoids", person.name, many, partial(_move_balls, many, number))
                lines = self._api.add_line_segments(
                    f"{place}/bones", shown.bones, np.repeat(colours[:, None], 2, axis=1), thickness=BONE_WIDTH
                )
                yield _Node("skeleton", person.name, lines, partial(_move_bones, lines, number))
            dots = self._api.add_point_cloud(
                f"{place}/joints", shown.joints, person.colour, point_size=JOINT_WIDTH, point_shape="circle"
            )
            yield _Node("skeleton", person.name, dots, partial(_move_joints, dots, number))

    def _cameras(self, first: Moment) -> Iterator[_Node]:
        edges, colours = self._edges(first)
        lines = self._api.add_line_segments("/cameras/edges", edges, colours, thickness=EDGE_SHARE * _depth(first))
        yield _Node("cameras", None, lines, partial(self._move_edges, lines))
        for number, camera in enumerate(first.cameras):
            blank = np.full((2, 2, 3), 255, np.uint8) if camera.picture is None else camera.picture
            width, height = camera.picture_size
            picture = self._api.add_image(f"/cameras/{number}/picture", blank, width, height, cast_shadow=False)
            yield _Node("pictures", None, picture, partial(_move_picture, picture, number))
            text = self._api.add_label(f"/cameras/{number}/name", camera.name, anchor="bottom-center")
            yield _Node("names", None, text, partial(_move_name, text, number))

    def _edges(self, moment: Moment) -> tuple[np.ndarray, np.ndarray]:
        """Lines (N, 2, 3) of all cameras, and their colours (N, 2, 3)."""
        edges = [camera_edges(camera) for camera in moment.cameras]
        colours = [np.full((len(e), 2, 3), CHOSEN if n == self.chosen else DARK, np.uint8) for n, e in enumerate(edges)]
        return np.concatenate(edges), np.concatenate(colours)

    def _move_edges(self, lines: viser.LineSegmentsHandle, moment: Moment) -> bool:
        lines.points, lines.colors = self._edges(moment)
        lines.thickness = EDGE_SHARE * _depth(moment)
        return True


def camera_edges(camera: ShownCamera) -> np.ndarray:
    """Lines (10, 2, 3) from a camera to the corners of its picture, around that, and a roof over its upper side."""
    corners, center = camera.corners, camera.center
    around = np.stack([corners, np.roll(corners, -1, axis=0)], axis=1)
    rays = np.stack([np.broadcast_to(center, corners.shape), corners], axis=1)
    left, right = corners[0], corners[1]
    top = (left + right) / 2 + 0.25 * (left - corners[3])
    return np.concatenate([rays, around, [[left, top], [top, right]]]).astype(np.float32)


def _depth(moment: Moment) -> float:
    """About how far cameras are from their pictures, metres."""
    camera = moment.cameras[0]
    return float(np.linalg.norm(camera.corners.mean(axis=0) - camera.center))


def _move_mesh(mesh: viser.MeshHandle, number: int, moment: Moment) -> bool:
    vertices = moment.figures[number].mesh
    if vertices is not None:
        mesh.vertices = vertices
    return vertices is not None


def _move_balls(many: viser.BatchedMeshHandle, number: int, moment: Moment) -> bool:
    balls = moment.figures[number].ellipsoids
    if balls is not None:
        many.batched_positions, many.batched_wxyzs, many.batched_scales = balls.center, balls.rotation, balls.half_axes
    return balls is not None


def _move_bones(lines: viser.LineSegmentsHandle, number: int, moment: Moment) -> bool:
    bones = moment.figures[number].bones
    if bones is not None:
        lines.points = bones
    return bones is not None


def _move_joints(dots: viser.PointCloudHandle, number: int, moment: Moment) -> bool:
    dots.points = moment.figures[number].joints
    return True


def _move_picture(picture: viser.ImageHandle, number: int, moment: Moment) -> bool:
    camera = moment.cameras[number]
    if camera.picture is None:
        return False
    if not np.array_equal(picture.image, camera.picture):
        picture.image = camera.picture
    picture.render_width, picture.render_height = camera.picture_size
    picture.position, picture.wxyz = camera.corners.mean(axis=0), camera.rotation
    return True


def _move_name(text: viser.LabelHandle, number: int, moment: Moment) -> bool:
    camera = moment.cameras[number]
    text.position = camera.center + 0.8 * (camera.corners[0] - camera.corners[3])
    return True


def unit_ball(rings: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (P, 3) float32 and faces (F, 3) uint32, outwards, of a sphere cut along meridians and parallels."""
    turn, along = np.arange(2 * rings), np.arange(rings)[:, None]
    height, angle = np.pi * np.arange(rings + 1)[:, None] / rings, np.pi * turn / rings
    vertices = np.stack(
        np.broadcast_arrays(np.sin(height) * np.cos(angle), np.cos(height), np.sin(height) * np.sin(angle)), -1
    )
    here, beside = along * 2 * rings + turn, along * 2 * rings + (turn + 1) % (2 * rings)
    below, below_beside = here + 2 * rings, beside + 2 * rings
    # At the poles one of a cell's two faces has no area.
    faces = np.concatenate([np.stack([here, beside, below], -1)[1:], np.stack([beside, below_beside, below], -1)[:-1]])
    return vertices.reshape(-1, 3).astype(np.float32), faces.reshape(-1, 3).astype(np.uint32)
