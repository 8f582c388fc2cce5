"""The page: time, layers and cameras of a scene, for all who have it open."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from html import escape
from typing import Any

import torch
import viser
from torch import Tensor

from hvg.core.errors import HvgError
from hvg.core.files import system_reason
from hvg.view.drawing import CHOSEN, Drawing
from hvg.view.key_cameras import EditedPath
from hvg.view.listening import LocalServer
from hvg.view.scene import Scene, fitting_distance, moment, quaternions, rotation_of

# From where a page first looks: degrees from the front and above the horizon, and how many times as far as the cameras are.
AZIMUTH, ELEVATION, BACK, FIELD = 32.0, 20.0, 2.3, 42.0
NEAREST_LOOK = 1.2
# So many notes are open from the start; and how words are set.
FEW_NOTES = 2
TEXT = "font-size: 0.875em; line-height: 1.35; padding: 0.15em 0.9em 0.35em"
HELP = {
    "body": "The mesh of the bare body.",
    "ellipsoids": "HVG's: one around every bone.",
    "skeleton": "Joints and bones; left warm, right cold.",
    "cameras": "Pyramids, their roofs up.",
    "pictures": "What the cameras saw, where they are.",
    "names": "Names of the cameras.",
    "floor": "Squares of half a metre.",
}


class Page:
    """What a browser shows of a scene, and what its user does there. frame: that is shown. path: cameras as they are edited.

    save: writes the cameras, and says where; it raises HvgError or OSError where it cannot.
    """

    def __init__(self, server: LocalServer, scene: Scene, frame: int, save: Callable[[EditedPath], str]) -> None:
        self.server, self.scene, self.frame, self._save = server, scene, frame, save
        self.path = EditedPath(given=scene.cameras, target=scene.target)
        # Users' words come from several threads.
        self._lock = threading.RLock()
        self._distance = fitting_distance(scene)
        self.drawing = Drawing(server.scene, scene, moment(scene, frame, self._distance))
        self._gizmos: dict[int, viser.TransformControlsHandle] = {}
        self._look(scene)
        self._add_words(scene)
        self._add_time()
        self._add_layers()
        self._add_cameras()
        self.show()

    def _add_words(self, scene: Scene) -> None:
        """What is said of the scene. Names and captions are somebody's: they are text, whatever they hold."""
        gui = self.server.gui
        gui.add_html(f'<div style="{TEXT}"><b>{escape(scene.title)}</b></div>')
        if scene.notes:
            with gui.add_folder("Notes", expand_by_default=len(scene.notes) <= FEW_NOTES):
                gui.add_html("".join(f'<div style="{TEXT}">{escape(note)}</div>' for note in scene.notes))

    # --- time and layers ------------------------------------------------------------------------------------------------

    @property
    def is_playing(self) -> bool:
        """Whether frames go on by themselves."""
        return self._playing

    @property
    def rate(self) -> float:
        """Frames per second."""
        return float(self._rate.value)

    def show(self, frame: int | None = None) -> None:
        """Shows a frame; without one the present frame, as it is now."""
        with self._lock:
            self.frame = self.frame if frame is None else frame
            now = replace(self.scene, cameras=self.path.cameras())
            with self.server.atomic():
                self.drawing.show(moment(now, self.frame, self._distance))
                self._slider.value = self.frame

    def step(self) -> None:
        """Shows the next frame, after the last the first."""
        self.show((self.frame + 1) % self.scene.num_frames)

    def _add_time(self) -> None:
        gui, moves = self.server.gui, self.scene.num_frames > 1
        self._playing = False
        with gui.add_folder("Time", visible=moves):
            last = max(1, self.scene.num_frames - 1)
            self._slider = gui.add_slider("Frame", 0, last, 1, self.frame)
            self._play = gui.add_button("Play", icon=viser.Icon.PLAYER_PLAY)
            self._rate = gui.add_slider("Frames a second", 1.0, 60.0, 0.5, min(60.0, max(1.0, self.scene.rate)))
        self._slider.on_update(lambda event: self._slid())
        self._play.on_click(lambda event: self._toggle())

    def _slid(self) -> None:
        if self._slider.value != self.frame:
            self.show(min(int(self._slider.value), self.scene.num_frames - 1))

    def _toggle(self) -> None:
        self._playing = not self._playing
        self._play.label = "Pause" if self._playing else "Play"
        self._play.icon = viser.Icon.PLAYER_PAUSE if self._playing else viser.Icon.PLAYER_PLAY

    def _add_layers(self) -> None:
        gui = self.server.gui
        with gui.add_folder("Show"):
            for layer in self.drawing.present():
                box = gui.add_checkbox(layer, layer in self.drawing.layers, hint=HELP[layer])
                box.on_update(self._chooser(self.drawing.layers, layer))
            for person in self.scene.figures if len(self.scene.figures) > 1 else ():
                box = gui.add_checkbox(f"{person.name} body", True, hint="#{:02x}{:02x}{:02x}".format(*person.colour))
                box.on_update(self._chooser(self.drawing.figures, person.name))
            size = gui.add_slider("camera size", 0.02, max(1.0, 2 * self._distance), 0.01, round(self._distance, 2))
            size.on_update(lambda event: self._resize(event.target.value))

    def _chooser(self, chosen: set[str], name: str) -> Callable[[Any], None]:
        def choose(event: Any) -> None:
            with self._lock:
                (chosen.add if event.target.value else chosen.discard)(name)
                self.show()

        return choose

    def _resize(self, distance: float) -> None:
        with self._lock:
            self._distance = distance
            self.show()

    def _look(self, scene: Scene) -> None:
        """Where a page that is opened looks from."""
        away = (scene.cameras.centers - scene.target).norm(dim=-1).median()
        distance = BACK * max(NEAREST_LOOK, float(away))
        azimuth, elevation = math.radians(AZIMUTH), math.radians(ELEVATION)
        level = math.cos(elevation)
        direction = torch.tensor([level * math.sin(azimuth), math.sin(elevation), level * math.cos(azimuth)])
        self.server.scene.set_up_direction("+y")
        first = self.server.initial_camera
        first.position = (scene.target + distance * direction).numpy()
        first.look_at, first.fov = scene.target.numpy(), math.radians(FIELD)

    # --- cameras ----------------------------------------------------------------------------------------------------------

    @property
    def view(self) -> int:
        """The camera that is chosen."""
        return self._labels.index(self._chosen.value)

    def _add_cameras(self) -> None:
        gui = self.server.gui
        self._labels = [f"{number}: {name}" for number, name in enumerate(self.scene.names)]
        with gui.add_folder("Cameras"):
            self._chosen = gui.add_dropdown("Camera", self._labels)
            through = gui.add_button("Look through it")
            self._edits = gui.add_checkbox(
                "Move it by hand", False, hint="Drag its key cameras; between them it interpolates."
            )
            add = gui.add_button("Key camera in this frame")
            remove = gui.add_button("Remove the key of this frame")
            here = gui.add_button("Put it where I look from")
            back = gui.add_button("As it came")
            self._buttons = [add, remove, here, back]
            save = gui.add_button("Save the cameras", color="green")
        self._chosen.on_update(lambda event: self._choose())
        self._edits.on_update(lambda event: self._choose())
        through.on_click(self._look_through)
        add.on_click(lambda event: self._edit(event, lambda path: path.put(self.view, self.frame)))
        remove.on_click(lambda event: self._edit(event, lambda path: path.without(self.view, self.frame)))
        here.on_click(
            lambda event: self._edit(event, lambda path: path.put(self.view, self._key_frame(), _pose_of(event)))
        )
        back.on_click(lambda event: self._edit(event, lambda path: path.reset(self.view)))
        save.on_click(self._saves)
        self._choose()

    def _choose(self) -> None:
        """Another camera was chosen, or whether it is edited."""
        with self._lock:
            self.drawing.chosen = self.view if self._edits.value else None
            for button in self._buttons:
                button.visible = self._edits.value
            self._place_gizmos()
            self.show()

    def _key_frame(self) -> int:
        """The frame whose key is meant: the present one; the only key of a camera that stands still."""
        keys = self.path.keys(self.view)
        return next(iter(keys)) if len(keys) == 1 else self.frame

    def _edit(self, event: Any, change: Callable[[EditedPath], EditedPath]) -> None:
        with self._lock:
            try:
                self.path = change(self.path)
            except HvgError as error:
                _tell(event, "Nothing was changed", str(error), "yellow")
            self._place_gizmos()
            self.show()

    def _place_gizmos(self) -> None:
        """A gizmo on every key of the camera that is edited, and its way."""
        for gizmo in self._gizmos.values():
            gizmo.remove()
        self._gizmos.clear()
        self._draw_way()
        if not self._edits.value:
            return
        for frame, pose in self.path.keys(self.view).items():
            center, turn = _center(pose), quaternions(pose[:3, :3].mT)
            gizmo = self.server.scene.add_transform_controls(
                f"/keys/{frame}", scale=1.6 * self._distance, wxyz=turn, position=center.numpy(), depth_test=False
            )
            self.server.scene.add_label(f"/keys/{frame}/frame", f"frame {frame}", anchor="top-center")
            gizmo.on_update(self._dragger(self.view, frame))
            self._gizmos[frame] = gizmo

    def _draw_way(self) -> None:
        """The way of the camera that is edited, where it moves."""
        self.server.scene.remove_by_name("/way")
        centers = self.path.cameras()[self.view].centers
        if self._edits.value and not bool((centers == centers[:1]).all()):
            way = torch.stack([centers[:-1], centers[1:]], dim=1).numpy()
            self.server.scene.add_line_segments("/way", way, CHOSEN, thickness=0.01)

    def _dragger(self, view: int, frame: int) -> Callable[[viser.TransformControlsEvent], None]:
        def drag(event: viser.TransformControlsEvent) -> None:
            with self._lock:
                # As it is by now: what was said may come in any order.
                pose = pose_at(event.target.position, event.target.wxyz)
                if self._gizmos.get(frame) is event.target and view == self.view:
                    self.path = self.path.put(view, frame, pose)
                    self._draw_way()
                    self.show()

        return drag

    def _look_through(self, event: Any) -> None:
        """The user's own view becomes that of the chosen camera, with its field of view from top to bottom."""
        if event.client is None:
            return
        with self._lock:
            camera = self.path.cameras()[self.view, self.frame]
        with event.client.atomic():
            event.client.camera.wxyz = quaternions(camera.world_to_camera[:3, :3].mT)
            event.client.camera.position = camera.centers.numpy()
            event.client.camera.fov = 2 * math.atan(camera.image_size[0] / 2 / float(camera.intrinsics[1, 1]))

    def _saves(self, event: Any) -> None:
        with self._lock:
            try:
                said = self._save(self.path)
            except HvgError as error:
                _tell(event, "Not saved", str(error), "red")
            except OSError as error:
                _tell(event, "Not saved", system_reason(error) or str(error), "red")
            else:
                _tell(event, "Saved", said, "green")


def pose_at(position: Any, quaternion: Any) -> Tensor:
    """world_to_camera (4, 4), float64, of a camera at ``position`` (3) whose axes are turned by (w, x, y, z)."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation_of(quaternion).mT
    pose[:3, 3] = -pose[:3, :3] @ torch.as_tensor(position, dtype=torch.float64)
    return pose


def _pose_of(event: Any) -> Tensor:
    """From where the user who clicked looks. Raises: HvgError where nobody did."""
    if event.client is None:
        raise HvgError("nobody is looking")
    return pose_at(event.client.camera.position, event.client.camera.wxyz)


def _center(pose: Tensor) -> Tensor:
    return -pose[:3, :3].mT @ pose[:3, 3]


def _tell(event: Any, title: str, text: str, colour: str) -> None:
    if event.client is not None:
        event.client.add_notification(title, text, auto_close_seconds=8.0, color=colour)
