"""Cameras of nerfstudio, Blender and COLMAP: a point is seen at the pixel that their own formulas say."""

import json
import math

import pytest
import torch

from hvg.core.errors import DataError, HvgError
from hvg.geometry.foreign_cameras import write_transforms
from hvg.media.images import write_png
from hvg.sample.camera_paths import read_cameras
from hvg.sample.videos import write_camera_files
from hvg.values.cameras import Cameras, orbit, project

POINTS = torch.tensor([[0.1, 1.2, 0.05], [-0.3, 0.2, 0.2], [0.0, 0.0, 0.0]], dtype=torch.float64)


def moving(views=2, frames=3):
    """Cameras (V, T) all around, of different focal lengths, off the centre."""
    around = orbit(
        torch.arange(views * frames) * 47.0,
        elevation_degrees=12.0,
        distance=3.0,
        target=torch.tensor([0.0, 0.9, 0.1]),
        fov_degrees=40.0,
        image_size=(48, 64),
    )
    lens = around.intrinsics.clone()
    lens[:, 0, 0] *= 1.1
    lens[:, 0, 2] += 2.5
    cameras = Cameras(world_to_camera=around.world_to_camera, intrinsics=lens, image_size=(48, 64))
    return Cameras(
        world_to_camera=cameras.world_to_camera.unflatten(0, (views, frames)),
        intrinsics=cameras.intrinsics.unflatten(0, (views, frames)),
        image_size=(48, 64),
    )


def names(views, frames):
    return [[f"images/view-{v:02d}/{t:05d}.png" for t in range(frames)] for v in range(views)]


def pixels(cameras):
    return project(POINTS.float().expand(*cameras.shape, 3, 3), cameras)[0]


def test_what_is_written_comes_back(tmp_path):
    cameras = moving()
    write_transforms(tmp_path / "transforms.json", cameras, names(2, 3))
    found = read_cameras(tmp_path / "transforms.json")
    assert found.names == ("view-00", "view-01") and found.num_frames == 3
    assert (found.cameras.world_to_camera - cameras.world_to_camera).abs().max() < 1e-6
    assert torch.equal(found.cameras.intrinsics, cameras.intrinsics)
    assert found.cameras.image_size == (48, 64)


def test_a_written_file_is_as_nerfstudio_has_it(tmp_path):
    """z up; a camera looks along -z, y up; the pixel is that of its formula."""
    cameras = moving()
    write_transforms(tmp_path / "transforms.json", cameras, names(2, 3))
    file = json.loads((tmp_path / "transforms.json").read_text())
    assert (file["w"], file["h"]) == (64, 48)
    expected = {f"images/view-{v:02d}/{t:05d}.png": pixels(cameras)[v, t] for v in range(2) for t in range(3)}
    times = {}
    for frame in file["frames"]:
        in_z_up = torch.stack([POINTS[:, 0], -POINTS[:, 2], POINTS[:, 1]], dim=1)
        to_world = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
        x, y, z = ((in_z_up - to_world[:3, 3]) @ to_world[:3, :3]).unbind(1)
        assert (z < 0).all()
        seen = torch.stack([frame["fl_x"] * x / -z + frame["cx"], frame["fl_y"] * -y / -z + frame["cy"]], dim=1)
        assert (seen - expected.pop(frame["file_path"])).abs().max() < 1e-3
        times.setdefault(frame["time"], []).append(frame["file_path"])
    assert not expected
    assert sorted(times) == [0.0, 0.5, 1.0] and all(len(files) == 2 for files in times.values())


def test_loaders_of_4d_gaussians_see_points_where_they_are(tmp_path):
    """By the formulas of fudan-zvg/4d-gaussian-splatting, which append an ending; 4DGaussians needs the one lens, too."""
    cameras = moving()
    write_camera_files(tmp_path, cameras, names(2, 3))
    found = {name: json.loads((tmp_path / f"transforms_{name}.json").read_text()) for name in ("train", "test")}
    expected = {f"images/view-{v:02d}/{t:05d}": pixels(cameras)[v, t] for v in range(2) for t in range(3)}
    assert {frame["file_path"] for frame in found["train"]["frames"]} == set(expected)
    assert {frame["file_path"] for frame in found["test"]["frames"]} == {name for name in expected if "view-00" in name}
    in_z_up = torch.stack([POINTS[:, 0], -POINTS[:, 2], POINTS[:, 1]], dim=1)
    for file in found.values():
        assert file["camera_angle_x"] == pytest.approx(2 * math.atan(32 / file["frames"][0]["fl_x"]))
        for frame in file["frames"]:
            to_world = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
            to_world[:3, 1:3] *= -1
            to_camera = torch.linalg.inv(to_world)
            x, y, z = (in_z_up @ to_camera[:3, :3].mT + to_camera[:3, 3]).unbind(1)
            seen = torch.stack([frame["fl_x"] * x / z + frame["cx"], frame["fl_y"] * y / z + frame["cy"]], dim=1)
            assert (seen - expected[frame["file_path"]]).abs().max() < 1e-3 and 0 <= frame["time"] <= 1


def test_a_lens_that_changes_is_not_told_as_one(tmp_path):
    cameras = moving()
    cameras.intrinsics[0, 1, 0, 0] += 1
    write_transforms(tmp_path / "transforms.json", cameras, names(2, 3))
    assert "camera_angle_x" not in json.loads((tmp_path / "transforms.json").read_text())


def test_blenders_file_leaves_the_size_to_its_pictures(tmp_path):
    write_png(tmp_path / "train" / "r_0.png", torch.zeros(3, 48, 64))
    to_world = [[1, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 1], [0, 0, 0, 1]]
    frame = {"file_path": "./train/r_0", "rotation": 0.01, "transform_matrix": to_world}
    (tmp_path / "transforms_train.json").write_text(json.dumps({"camera_angle_x": 0.69, "frames": [frame]}))
    found = read_cameras(tmp_path / "transforms_train.json")
    assert found.names == ("r_0",) and found.cameras.image_size == (48, 64)
    focal = 32 / math.tan(0.345)
    assert torch.allclose(found.cameras.intrinsics[0, 0], torch.tensor([[focal, 0, 32], [0, focal, 24], [0, 0, 1]]))
    # 4 m away along Blender's -y, which is +z here, and 1 m high.
    assert torch.allclose(found.cameras.centers[0, 0], torch.tensor([0.0, 1.0, 4.0]))
    point = project(torch.tensor([[[[0.5, 1.0, 0.0]]]]), found.cameras)[0][0, 0, 0]
    assert torch.allclose(point, torch.tensor([32 + focal * 0.5 / 4, 24.0]))


# w, x, y, z of turns; and the rotation written out.
TURNS = {
    (1.0, 0.0, 0.0, 0.0): [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    (math.sqrt(0.5), 0.0, math.sqrt(0.5), 0.0): [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
    (0.0, 1.0, 0.0, 0.0): [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
}


def colmap(folder, model="PINHOLE 64 48 70 71 31 25", points="1.0 2.0 -1", images=None):
    folder.mkdir(exist_ok=True)
    (folder / "cameras.txt").write_text(f"# Camera list\n# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n1 {model}\n")
    lines = images or [f"{n} {w} {x} {y} {z} 0.1 0.2 3 1 cam {n}.png" for n, (w, x, y, z) in enumerate(TURNS)]
    (folder / "images.txt").write_text("# Image list\n" + "".join(f"{line}\n{points}\n" for line in lines))
    return folder


# A point of hvg's world as COLMAP's has it.
SWAPS = {
    "y": lambda x, y, z: (x, y, z),
    "-y": lambda x, y, z: (x, -y, -z),
    "z": lambda x, y, z: (x, -z, y),
    "-z": lambda x, y, z: (x, z, -y),
}


@pytest.mark.parametrize("points", ["", "1.0 2.0 -1"])
@pytest.mark.parametrize("up", SWAPS)
def test_colmaps_text(tmp_path, up, points):
    """Points are seen where COLMAP's formulas say. A picture without points is an empty line."""
    found = read_cameras(colmap(tmp_path / "sparse", points=points), up)
    assert found.names == ("cam 0", "cam 1", "cam 2") and found.num_frames is None
    theirs = torch.stack(SWAPS[up](*POINTS.unbind(1)), dim=1)
    for v, rotation in enumerate(TURNS.values()):
        x, y, z = (theirs @ torch.tensor(rotation, dtype=torch.float64).mT + torch.tensor([0.1, 0.2, 3.0])).unbind(1)
        expected = torch.stack([70 * x / z + 31, 71 * y / z + 25], dim=1)
        assert (pixels(found.cameras)[v, 0] - expected).abs().max() < 1e-3


def test_a_simple_pinhole_is_one_focal_length(tmp_path):
    found = read_cameras(colmap(tmp_path / "sparse", "SIMPLE_PINHOLE 64 48 70 32 24"), "y")
    assert torch.equal(found.cameras.intrinsics[0, 0], torch.tensor([[70.0, 0, 32], [0, 70, 24], [0, 0, 1]]))


COLMAP_FAULTS = {
    "bends": ({"model": "OPENCV 64 48 70 70 32 24 0.1 0 0 0"}, r"cameras.txt: line 3: its lens bends \(k1 is 0.1\)"),
    "fisheye": (
        {"model": "OPENCV_FISHEYE 64 48 1 1 1 1 0 0 0 0"},
        "camera model OPENCV_FISHEYE; expected one of SIMPLE",
    ),
    "few numbers": ({"model": "PINHOLE 64 48 70"}, "line 3 has 1 numbers; PINHOLE has 4, fx, fy, cx, cy"),
    "no number": ({"model": "PINHOLE 64 48 70 x 32 24"}, "line 3: 'x' is no finite number"),
    "too large": ({"model": "PINHOLE 1e9 1e9 70 70 32 24"}, "pixels; expected at most 67 million"),
    "focal": ({"model": "PINHOLE 64 48 70 -70 32 24"}, "focal lengths are 70 and -70"),
    "short line": ({"images": ["1 1 0 0 0 0 0 0 1"]}, "images.txt: line 2 has 9 words; expected 10"),
    "other camera": ({"images": ["1 1 0 0 0 0 0 0 7 a.png"]}, "line 2 names the camera 7, which cameras.txt does not"),
    "quaternion": ({"images": ["1 1 1 0 0 0 0 0 1 a.png"]}, "its quaternion has length 1.414; expected 1"),
    "nothing": ({"images": ["# none"], "points": ""}, "holds no picture"),
}


@pytest.mark.parametrize("fault", COLMAP_FAULTS)
def test_a_wrong_model_is_one_line_that_says_where(tmp_path, fault):
    files, message = COLMAP_FAULTS[fault]
    with pytest.raises(DataError, match=message) as caught:
        read_cameras(colmap(tmp_path / "sparse", **files), "y")
    assert "\n" not in str(caught.value)


def test_which_axis_is_up_is_asked_where_nobody_knows(tmp_path):
    folder = colmap(tmp_path / "sparse")
    with pytest.raises(DataError, match="a COLMAP world has no up; say which axis of it is: camera_up=y, -y, z or -z"):
        read_cameras(folder)
    (folder / "images.txt").rename(folder / "images.bin")
    with pytest.raises(DataError, match=r"images\.txt: there is no such file, only the binary one"):
        read_cameras(folder, "y")
    with pytest.raises(DataError, match="is a folder without a COLMAP model"):
        read_cameras(tmp_path, "y")


def still(**changes):
    to_world = [[1, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 1], [0, 0, 0, 1]]
    frame = {"file_path": "a/0.png", "fl_x": 70, "w": 64, "h": 48, "transform_matrix": to_world}
    return {key: value for key, value in {**frame, **changes}.items() if value is not None}


SCALED = [[2, 0, 0, 0], [0, 0, -2, -4], [0, 2, 0, 1], [0, 0, 0, 1]]
MIRRORED = [[-1, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 1], [0, 0, 0, 1]]
FAULTS = {
    "no frames": ({"frames": []}, "frames is no list of at least one camera"),
    "fisheye": ({"camera_model": "OPENCV_FISHEYE", "frames": [still()]}, "camera_model is 'OPENCV_FISHEYE'"),
    "bends": ({"k1": 0.02, "frames": [still()]}, r"its lens bends \(k1 is 0.02\); undistort"),
    "no focal": ({"frames": [still(fl_x=None)]}, "has neither fl_x nor camera_angle_x"),
    "no angle": (
        {"frames": [still(fl_x=None, camera_angle_x=0)]},
        "camera_angle_x is 0; expected radians between 0 and pi",
    ),
    "too large": ({"frames": [still(w=10**9, h=10**9)]}, "pixels; expected at most 67 million"),
    "focal": ({"frames": [still(fl_x=-1)]}, "focal lengths are -1 and -1"),
    "text": ({"frames": [still(fl_x="70")]}, r"frames\[0\]: fl_x is no finite number"),
    "no size": ({"frames": [still(w=None)]}, "has no w and h, and its picture .*a/0.png is not there"),
    "half pixels": ({"frames": [still(w=64.5)]}, "expected whole numbers of pixels"),
    "no matrix": ({"frames": [still(transform_matrix=None)]}, r"frames\[0\].transform_matrix is missing"),
    "shape": ({"frames": [still(transform_matrix=[[1, 0], [0, 1]])]}, r"has shape \(2, 2\)"),
    "scaled": ({"frames": [still(transform_matrix=SCALED)]}, "off by 3 in R R"),
    "mirrored": ({"frames": [still(transform_matrix=MIRRORED)]}, "mirrors the world"),
    "sizes": ({"frames": [still(), still(w=32)]}, "its pictures have 2 sizes, such as"),
    "some times": ({"frames": [still(time=0), still()]}, "1 of 2 frames have no time"),
    "uneven": ({"frames": [still(time=0), still(time=1), still(time=0, file_path="b/0.png")]}, "have 1 and 2 frames"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_one_line_that_says_where(tmp_path, fault):
    tree, message = FAULTS[fault]
    (tmp_path / "transforms.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message) as caught:
        read_cameras(tmp_path / "transforms.json")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_names_that_cannot_be_files_become_numbers(tmp_path):
    frames = [still(file_path="a/0.png"), still(file_path="b/0.png")]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    assert read_cameras(tmp_path / "transforms.json").names == ("view 0", "view 1")


def test_ups_of_files_that_have_one(tmp_path):
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": [still()]}))
    z, y = (read_cameras(tmp_path / "transforms.json", up).cameras.centers[0, 0] for up in ("auto", "y"))
    assert torch.allclose(z, torch.tensor([0.0, 1.0, 4.0])) and torch.allclose(y, torch.tensor([0.0, -4.0, 1.0]))
    own = {
        "image_size": [48, 64],
        "views": [{"world_to_camera": torch.eye(4).tolist(), "intrinsics": [[9, 0, 9], [0, 9, 9], [0, 0, 1]]}],
    }
    (tmp_path / "cameras.json").write_text(json.dumps(own))
    assert read_cameras(tmp_path / "cameras.json", "y").names == ("view 0",)
    with pytest.raises(HvgError, match=r"its world is y up, .* camera_up=z is for other systems' files"):
        read_cameras(tmp_path / "cameras.json", "z")
