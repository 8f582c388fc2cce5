"""The program that looks for a person with MediaPipe, run by ``hvg.media.person_detector`` in an environment without hvg.

Standard input: of every picture its height and width, two unsigned 32-bit integers, little-endian, and its pixels (H, W, 3),
sRGB, uint8. Standard output: for each of them the number of bytes, another such integer, and an ``.npz`` of so many, with

- ``image``: (33, 2), the joints in the picture, pixels from its left upper corner; ``world``: (33, 3), metres from the middle of
  the hips, x right, y down, z away from the camera; ``visibility``: (33,) in [0, 1]; NaN where nobody is found;
- ``matte``: (H, W) uint8, 255 where the person is;
- ``people``: how many are seen in it.

``--still``: every picture stands alone; else they are those of a video, and the person is followed.
"""

import io
import os
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from google.protobuf import text_format
from mediapipe.framework.calculator_pb2 import CalculatorGraphConfig
from mediapipe.python.solution_base import SolutionBase
from mediapipe.python.solutions.pose import Pose
from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

JOINTS = 33
# Room around the joints in which the person is cut out, as a share of the longer side of what they span.
ROOM = 0.3
# Two are one person where their hips are closer than this share of the radius around one of them.
SAME = 0.5
# People are counted in one picture of so many.
COUNT_EVERY = 5
# MediaPipe's own first step, of which its pose keeps the most prominent person alone.
EVERYBODY = """
input_stream: "IMAGE:image"
output_stream: "DETECTIONS:detections"
node { calculator: "PoseDetectionCpu" input_stream: "IMAGE:image" output_stream: "DETECTIONS:detections" }
"""


def main() -> None:
    """Answers until its input ends."""
    # What the libraries print goes elsewhere than the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # Smoothing comes later, from both sides of a frame, and by the video's own rate.
    settings = {"smooth_landmarks": False, "smooth_segmentation": False}
    pose = Pose(static_image_mode="--still" in sys.argv, enable_segmentation=True, **settings)
    graph = text_format.Parse(EVERYBODY, CalculatorGraphConfig())
    everybody = SolutionBase(graph_config=graph, outputs=["detections"])
    cutter = SelfieSegmentation(model_selection=0)
    number, people = 0, 0
    while (picture := read_picture(sys.stdin.buffer)) is not None:
        people = people if number % COUNT_EVERY else len(hips_of_all(everybody, picture))
        number += 1
        seen = person(pose, picture)
        if seen["matte"].any():
            seen["matte"] = np.maximum(seen["matte"], cut_out(cutter, picture, seen["image"]))
        buffer = io.BytesIO()
        np.savez(buffer, people=people, **seen)  # pyright: ignore[reportArgumentType]
        answers.write(struct.pack("<I", buffer.tell()) + buffer.getvalue())
        answers.flush()


def read_picture(stream: BinaryIO) -> np.ndarray | None:
    """(H, W, 3) uint8; None where the input ends."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    height, width = struct.unpack("<II", head)
    return np.frombuffer(stream.read(height * width * 3), np.uint8).reshape(height, width, 3)


def hips_of_all(everybody: SolutionBase, picture: np.ndarray) -> list[np.ndarray]:
    """Where the hips (2,) of everybody are, pixels. Looks at squares of a long picture, too, in which people are larger."""
    found: list[np.ndarray] = []
    for corner, part in parts(picture):
        size = np.array(part.shape[1::-1])
        for one in everybody.process({"image": part}).detections or ():
            points = [np.array((point.x, point.y)) * size for point in one.location_data.relative_keypoints[:2]]
            # The second is on a circle around the person.
            hips, radius = points[0], np.linalg.norm(points[1] - points[0])
            whole = len(part) * part.shape[1] == len(picture) * picture.shape[1]
            beside = all(np.linalg.norm(hips + corner - other) > SAME * radius for other in found)
            if beside and (whole or ((hips > SAME * radius).all() and (hips < size - SAME * radius).all())):
                found.append(hips + corner)
    return found


def parts(picture: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The whole picture and, of a long one, squares that overlap by half or more; each with where its corner is, (2,) pixels."""
    yield np.zeros(2), picture
    height, width = picture.shape[:2]
    side, rest = min(height, width), abs(height - width)
    steps = -(-2 * rest // side)
    for start in (rest * step // steps for step in range(steps + 1)) if steps else ():
        left, top = (start, 0) if width > height else (0, start)
        yield np.array((left, top)), np.ascontiguousarray(picture[top : top + side, left : left + side])


def person(pose: Pose, picture: np.ndarray) -> dict[str, np.ndarray]:
    """What is said of the most prominent person; the keys but ``people``."""
    height, width = picture.shape[:2]
    result = pose.process(picture)
    if not result.pose_landmarks or not result.pose_world_landmarks:
        nobody = {name: np.full((JOINTS, *shape), np.nan) for name, shape in (("image", (2,)), ("world", (3,)))}
        return nobody | {"visibility": np.full(JOINTS, np.nan), "matte": np.zeros((height, width), np.uint8)}
    image, world = result.pose_landmarks.landmark, result.pose_world_landmarks.landmark
    return {
        "image": np.array([(joint.x * width, joint.y * height) for joint in image]),
        "world": np.array([(joint.x, joint.y, joint.z) for joint in world]),
        "visibility": np.array([joint.visibility for joint in image]),
        "matte": eight_bit(result.segmentation_mask),
    }


def cut_out(cutter: SelfieSegmentation, picture: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """A second matte (H, W), uint8, of the person around joints (33, 2): it knows skirts and hair."""
    low, high = joints.min(axis=0), joints.max(axis=0)
    room = ROOM * (high - low).max()
    height, width = picture.shape[:2]
    left, top = np.clip(low - room, 0, (width - 1, height - 1)).astype(int)
    right, bottom = np.clip(high + room, (left + 1, top + 1), (width, height)).astype(int)
    part = np.ascontiguousarray(picture[top:bottom, left:right])
    matte = np.zeros((height, width), np.uint8)
    matte[top:bottom, left:right] = eight_bit(cutter.process(part).segmentation_mask)
    return matte


def eight_bit(matte: np.ndarray) -> np.ndarray:
    """A matte from 0 to 1 as one from 0 to 255."""
    return (matte.clip(0, 1) * 255).round().astype(np.uint8)


if __name__ == "__main__":
    main()
