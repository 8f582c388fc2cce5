"""The usual mistakes, planted in the files of a data set, are called by name by `hvg prepare check`; as filmed, none is."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from body_models import by_the_package
from data_set_files import write_models, write_mvhumannet
from PIL import Image, ImageOps
from recordings import save_in_world, write_multiview
from scipy.spatial.transform import Rotation

from hvg import cli
from hvg.geometry.given_motion import SMPLX_REST
from hvg.geometry.motion_files import load_motion

FRAMES, LONG = 12, 30
RIG = 120 / 65


# --- footage in the layout of nerfstudio and Diffuman4D ---


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Frames of three people -> the folder with them."""
    made = {}

    def folder(frames):
        if frames not in made:
            made[frames] = tmp_path_factory.mktemp(f"filmed{frames}")
            write_multiview(made[frames], frames=frames, size=(64, 48))
        return made[frames]

    return folder


def cameras(change):
    """Changes every camera of a transforms.json. change: of (name, matrix (4, 4) from camera to world, optics)."""

    def plant(recording):
        path = recording / "transforms.json"
        tree = json.loads(path.read_text())
        for entry in tree["frames"]:
            matrix, optics = np.array(entry["transform_matrix"]), {k: entry[k] for k in ("fl_x", "fl_y", "cx", "cy")}
            matrix, optics = change(entry["camera_label"], matrix, optics)
            entry |= {"transform_matrix": matrix.tolist(), **optics}
        path.write_text(json.dumps(tree))

    return plant


def moved(by):
    def change(name, matrix, optics):
        matrix[:3, 3] *= by
        return matrix, optics

    return cameras(change)


def lens(factor):
    return cameras(lambda name, matrix, optics: (matrix, {key: factor * x for key, x in optics.items()}))


def one_camera(name, matrix, optics):
    if name == "02":
        matrix[:3, 3] += (0.8, 0.5, 0.3)
    return matrix, optics


def pictures(change):
    """Changes the list of a camera's pictures, and of its masks."""

    def plant(recording):
        for folder in [*recording.glob("images/*"), *recording.glob("masks/*")]:
            files = sorted(folder.iterdir())
            found = change([Image.open(file).copy() for file in files])
            for file, picture in zip(files, found, strict=True):
                picture.save(file)

    return plant


def of_frames(choose):
    """Pictures of other frames than the bodies; choose: from a frame and the last one to another."""
    return pictures(lambda found: [found[choose(k, len(found) - 1)] for k in range(len(found))])


def motion(change, up="z"):
    """Changes the motion beside the pictures; up: of the axis that its file has up then."""

    def plant(recording):
        path = recording / "motion.npz"
        save_in_world(path, change(replace(load_motion(path, up="z"), body=None)), up=up)

    return plant


def moved_body(shift):
    return motion(lambda found: replace(found, translation=found.translation + shift))


def mirrored(found):
    """Left and right of the body exchanged, where it stands and looks."""
    swap = {"left": "right", "right": "left"}

    def other(name):
        side, _, rest = name.partition("_")
        return f"{swap[side]}_{rest}" if side in swap else name

    turned = {
        other(name): x * torch.tensor([1.0, -1.0, -1.0]) for name, x in found.rotations.items() if name != "pelvis"
    }
    return replace(found, rotations={**turned, "pelvis": found.rotations["pelvis"]})


FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
MULTIVIEW = {
    "camera scale": (moved(1 / RIG), "camera translation not scaled: it fits when multiplied by 1.8"),
    "millimetres": (moved(1000.0), "camera translation not scaled: it fits when multiplied by 0.001"),
    "opengl": (cameras(lambda name, matrix, optics: (matrix @ FLIP, optics)), "OpenGL axes"),
    "half-size lens": (lens(0.5), "half-size intrinsics"),
    "half-size pictures": (lens(2.0), "half-size pictures"),
    "bad camera": (cameras(one_camera), "a bad camera: the body lies in the pictures of the others"),
    "mirrored pictures": (pictures(lambda found: [ImageOps.mirror(x) for x in found]), "pictures mirrored"),
    "mirrored person": (motion(mirrored), "person mirrored: left and right of the body are exchanged"),
    "pelvis": (moved_body(-SMPLX_REST.origin), "pelvis offset forgotten"),
    "another axis": (motion(lambda found: found, up="y"), "another axis is up"),
    "pictures of every 5th": (
        of_frames(lambda k, last: min(5 * k, last)),
        "pictures are every 5th frame of the bodies: dataset.picture_every=5",
    ),
    "bodies of every 5th": (of_frames(lambda k, last: k // 5), "bodies are of every 5th picture: dataset.body_every=5"),
    "pictures of every 25th": (
        of_frames(lambda k, last: min(25 * k, last)),
        "pictures are every 25th frame of the bodies: dataset.picture_every=25",
    ),
    "bodies of every 25th": (
        of_frames(lambda k, last: k // 25),
        "bodies are of every 25th picture: dataset.body_every=25",
    ),
}
QUICK = ("opengl", "bad camera")


def named(traps):
    return [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in traps]


def check(capsys, *words):
    """Exit code, and what is printed of the one clip that is looked at: how it fits, and what is called."""
    code = cli.run(["prepare", "check", *words, "clips=1"])
    return code, [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()]


def planted(source: Path, folder: Path, plant) -> Path:
    """A copy of a data set, each recording spoilt."""
    root = Path(shutil.copytree(source, folder / "filmed"))
    for recording in sorted(root.iterdir()):
        plant(recording)
    return root


@pytest.mark.long
@pytest.mark.parametrize("name", named(MULTIVIEW))
def test_what_is_planted_in_footage_is_called_by_its_name(filmed, tmp_path, capsys, name):
    plant, told = MULTIVIEW[name]
    root = planted(filmed(LONG if "25th" in name else FRAMES), tmp_path, plant)
    code, lines = check(capsys, "multiview", f"dataset.root={root}", f"out={tmp_path / 'out'}")
    assert code == 1 and len(lines) == 2 and lines[1].startswith(told), lines
    if name == "bad camera":
        assert "not in those of camera '02'" in lines[1]


@pytest.mark.parametrize("frames", [FRAMES, pytest.param(LONG, marks=pytest.mark.long)])
def test_footage_as_it_was_filmed_draws_no_alarm(filmed, tmp_path, capsys, frames):
    code, lines = check(capsys, "multiview", f"dataset.root={filmed(frames)}", f"out={tmp_path / 'out'}")
    assert code == 0 and len(lines) == 1, lines


# --- outfits in the layout of MVHumanNet: millimetres, z down, EasyMocap's R and Th, pictures of half the size ---


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def outfits(tmp_path_factory, models):
    return write_mvhumannet(tmp_path_factory.mktemp("outfits"), models)


def rig(change):
    """Changes each camera of camera_extrinsics.json."""

    def plant(outfit, models):
        path = outfit / "camera_extrinsics.json"
        tree = {name: change(name, camera) for name, camera in json.loads(path.read_text()).items()}
        path.write_text(json.dumps(tree))

    return plant


def scaled_twice(name, camera):
    return camera | {"translation": [RIG * x for x in camera["translation"]]}


def kicked(name, camera):
    shift = (900.0, -400.0, 300.0) if "006" in name else (0.0, 0.0, 0.0)
    return camera | {"translation": [x + d for x, d in zip(camera["translation"], shift, strict=True)]}


def about_the_pelvis(outfit, models):
    """Th as SMPL-X's own transl, which goes with a turn about the pelvis."""
    for path in (outfit / "smplx" / "smpl").iterdir():
        (person,) = json.loads(path.read_text())
        betas = {"betas": torch.tensor(person["shapes"])}
        pelvis = by_the_package(models, "smplx", betas, flat_hand_mean=True, use_pca=False)[1][0, 0].numpy()
        turned = Rotation.from_rotvec(person["Rh"][0]).as_matrix() @ pelvis
        path.write_text(json.dumps([person | {"Th": [(np.array(person["Th"][0]) + turned - pelvis).tolist()]}]))


def halved_lens(outfit, models):
    path = outfit / "camera_intrinsics.json"
    tree = json.loads(path.read_text())
    matrix = (np.array(tree["intrinsics"]) * np.array([[0.5], [0.5], [1.0]])).tolist()
    path.write_text(json.dumps(tree | {"intrinsics": matrix}))


MVHUMANNET = {
    "rig's scale": (rig(scaled_twice), "camera translation not scaled: it fits when multiplied by 0.54"),
    "bad camera of a rig": (rig(kicked), "a bad camera: the body lies in the pictures of the others"),
    "R and Th": (about_the_pelvis, "pelvis offset forgotten"),
    "half-size lens of a rig": (halved_lens, "half-size intrinsics"),
}


def outfit_words(root, models, tmp_path):
    (tmp_path / "rules.txt").write_text("first 1 val\nfirst 1 test\nrest train\n")
    words = ["mvhumannet", f"dataset.root={root}", f"dataset.splits={tmp_path / 'rules.txt'}", "body=smplx"]
    return [*words, f"body.path={models}", f"out={tmp_path / 'out'}"]


@pytest.mark.long
@pytest.mark.parametrize("name", MVHUMANNET)
def test_what_is_planted_in_outfits_is_called_by_its_name(outfits, models, tmp_path, capsys, name):
    plant, told = MVHUMANNET[name]
    root = planted(outfits, tmp_path, lambda outfit: plant(outfit, models))
    code, lines = check(capsys, *outfit_words(root, models, tmp_path))
    assert code == 1 and len(lines) == 2 and lines[1].startswith(told), lines
    if name.startswith("bad camera"):
        assert "camera 'CC32871A006'" in lines[1]


@pytest.mark.long
def test_outfits_as_they_were_filmed_draw_no_alarm(outfits, models, tmp_path, capsys):
    code, lines = check(capsys, *outfit_words(outfits, models, tmp_path))
    assert code == 0 and len(lines) == 1, lines
