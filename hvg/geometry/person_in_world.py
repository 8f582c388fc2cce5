"""A person whom a detector saw in a video, in metres in the world of a camera that stands still.

A detector (MediaPipe) says for each joint where it is in the picture, and where it is from the middle of the hips in metres. Both
together say where the person is: there where the metres, seen by a camera of a given field of view, cover the joints of the
picture. What one camera cannot know is given or assumed: its field of view and tilt, on which the distance and its changes
depend; how tall the person is, which is the detector's guess; and that somebody stands on a floor, which is level.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import percentile_filter, uniform_filter1d
from scipy.signal import savgol_filter

from hvg.geometry.keypoint_sets import MEDIAPIPE

FEET = [MEDIAPIPE.index(f"{side}_{point}") for side in ("left", "right") for point in ("heel", "foot_index")]
HIPS = [MEDIAPIPE.index(f"{side}_hip") for side in ("left", "right")]
# Somebody stands on the floor in the lowest quarter of the frames of a second, percent: who is higher for most of one is taken
# for an error of the distance.
ON_FLOOR, STANDING = 1.0, 25
# How much longer the distance is smoothed than joints: it is seen by the person's size alone.
DISTANCE = 3
# Share of a person's stature that shin, thigh and trunk to the shoulders take together (Drillis and Contini 1966, table 3).
CHAIN = 0.246 + 0.245 + 0.288
_CHAIN = ("ankle", "knee", "hip", "shoulder")
# Confidence from which on a foot is where it is said to be.
SEEN = 0.5
# Weight of a joint that is not seen at all, beside 1 of one that is.
UNSEEN = 0.05
# x right, y down, z forward -> x right, y up, z towards the camera.
Y_UP = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class Landmarks:
    """MediaPipe's 33 joints in T frames at a steady rate; NaN in a frame where nobody was found.

    image: (T, 33, 2) pixels. world: (T, 33, 3) metres from the middle of the hips, x right, y down, z away from the camera.
    visibility: (T, 33) in [0, 1]. people: (T,), how many are seen.
    """

    image: np.ndarray
    world: np.ndarray
    visibility: np.ndarray
    people: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(T,) bool."""
        return np.asarray(np.isfinite(self.world).all(axis=(1, 2)) & np.isfinite(self.image).all(axis=(1, 2)))


@dataclass(frozen=True)
class PersonInWorld:
    """joints: (T, 33, 3) metres, y up, the floor at 0, x to the right of the camera and z towards it; in the first frame the
    hips are above the origin. confidence: (T, 33) in [0, 1], 0 where nobody was found. world_to_camera: (4, 4), OpenCV."""

    joints: np.ndarray
    confidence: np.ndarray
    world_to_camera: np.ndarray


def person_in_world(
    seen: Landmarks,
    rate: float,
    intrinsics: np.ndarray,
    *,
    tilt_degrees: float = 0.0,
    height: float | None = None,
    smoothing: float = 0.3,
) -> PersonInWorld:
    """Where the person is; joints of frames in which nobody was found are between those of the nearest others.

    rate: frames per second. intrinsics: (3, 3), pixels. tilt_degrees: how far the camera looks down. height: the person's
    stature, metres; None: as the detector guesses it. smoothing: seconds of the window in which joints follow a parabola
    (Savitzky and Golay 1964); 0 for none.
    Raises: ValueError where nobody is found in any frame.
    """
    confidence = np.where(seen.found[:, None], seen.visibility, 0.0).clip(0, 1)
    body = smooth(filled(seen.world, seen.found), rate, smoothing)
    if height is not None:
        body = body * (height / stature(body))
    rays = (filled(seen.image, seen.found) - intrinsics[:2, 2]) / intrinsics[(0, 1), (0, 1)]
    weights = np.maximum(confidence, UNSEEN)[..., None]
    distance = smooth(offsets(body, rays, weights)[:, 2], rate, DISTANCE * smoothing)
    joints = body + smooth(across(body, rays, weights, distance), rate, smoothing)[:, None]
    return _on_floor(joints, confidence, rate, camera_axes(tilt_degrees))


def camera_intrinsics(size: tuple[int, int], fov_degrees: float) -> np.ndarray:
    """(3, 3), pixels, of a picture of ``size`` (height, width) whose shorter side ``fov_degrees`` span."""
    focal = min(size) / 2 / math.tan(math.radians(fov_degrees) / 2)
    return np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1.0]])


def camera_axes(tilt_degrees: float) -> np.ndarray:
    """(3, 3): the rotation from the axes of a camera that looks down by so many degrees to a world with y up."""
    cos, sin = math.cos(math.radians(tilt_degrees)), math.sin(math.radians(tilt_degrees))
    return Y_UP @ np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])


def in_picture(person: PersonInWorld, intrinsics: np.ndarray) -> np.ndarray:
    """(T, 33, 2) pixels: where the camera sees the joints."""
    points = (person.joints @ person.world_to_camera[:3, :3].T + person.world_to_camera[:3, 3]) @ intrinsics.T
    return points[..., :2] / points[..., 2:].clip(1e-3)


def stature(joints: np.ndarray) -> float:
    """Metres of a person of joints (T, 33, 3), by the lengths of shin, thigh and trunk; the median of the frames."""
    sides = [[MEDIAPIPE.index(f"{side}_{name}") for name in _CHAIN] for side in ("left", "right")]
    lengths = np.linalg.norm(np.diff(joints[:, sides], axis=2), axis=-1).sum(-1)
    return float(np.median(lengths)) / CHAIN


def filled(values: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Values (T, ...) with lines through the frames that are not ``found`` (T), and the nearest before the first and after the
    last. Raises: ValueError where none is found."""
    frames = np.arange(len(values))
    if not found.any():
        raise ValueError("nobody is found in any frame")
    columns = values.reshape(len(values), -1).T
    return np.stack([np.interp(frames, frames[found], column[found]) for column in columns], -1).reshape(values.shape)


def smooth(values: np.ndarray, rate: float, seconds: float) -> np.ndarray:
    """Values (T, ...) after a parabola in a window of about so many seconds; as they are where it holds three frames or less."""
    window = min(2 * round(seconds * rate / 2) + 1, len(values) - (len(values) + 1) % 2)
    return values if window <= 3 else np.asarray(savgol_filter(values, window, polyorder=2, axis=0))


def offsets(body: np.ndarray, rays: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(T, 3) metres: the shifts t of ``body`` (T, J, 3) with which it lies best on ``rays`` (T, J, 2), which are x/z and y/z.

    Least squares of (X + t_x) - u (Z + t_z) and the same of y, which are linear in t. weights: (T, J, 1).
    """
    ones, zeros = np.ones_like(rays[..., 0]), np.zeros_like(rays[..., 0])
    u, v = rays[..., 0], rays[..., 1]
    rows = np.concatenate([np.stack([ones, zeros, -u], -1), np.stack([zeros, ones, -v], -1)], axis=1)
    aims = (rays * body[..., 2:] - body[..., :2]).swapaxes(1, 2).reshape(len(body), -1, 1)
    weighted = (np.tile(weights, (1, 2, 1)) * rows).swapaxes(1, 2)
    return np.linalg.solve(weighted @ rows, weighted @ aims)[..., 0]


def across(body: np.ndarray, rays: np.ndarray, weights: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(T, 3) metres: the same where the third number, ``distance`` (T), is known."""
    aims = rays * (body[..., 2:] + distance[:, None, None]) - body[..., :2]
    return np.concatenate([(weights * aims).sum(1) / weights.sum(1), distance[:, None]], axis=1)


def _on_floor(joints: np.ndarray, confidence: np.ndarray, rate: float, axes: np.ndarray) -> PersonInWorld:
    """joints: (T, 33, 3) in the axes of the camera, which stands at 0; ``axes`` turns them upright."""
    joints = joints @ axes.T
    floor = floor_height(joints, confidence, rate)
    joints[..., 1] -= floor[:, None]
    start = joints[0, HIPS].mean(0) * (1, 0, 1)
    moved = np.eye(4)
    moved[:3, :3] = axes.T
    moved[:3, 3] = axes.T @ (start + np.array([0, np.median(floor), 0]))
    return PersonInWorld(joints - start, confidence, moved)


def floor_height(joints: np.ndarray, confidence: np.ndarray, rate: float) -> np.ndarray:
    """(T,) metres: the height on which somebody stands in the second around each frame, of joints (T, 33, 3), y up.

    It is that of the lowest point of a foot; its slow changes are errors of the distance, or of the camera's tilt. Of feet that
    are out of sight in most frames nothing is known: the floor is at their usual height in all. confidence: (T, 33).
    """
    feet = joints[:, FEET, 1]
    lowest, seen = feet.min(axis=1), np.median(confidence[:, FEET], axis=1) >= SEEN
    if seen.mean() < 0.5:
        return np.full(len(joints), np.median(lowest))
    window = max(1, round(ON_FLOOR * rate))
    low = percentile_filter(filled(lowest, seen), STANDING, window, mode="nearest")
    return np.asarray(uniform_filter1d(low, window, mode="nearest"))
