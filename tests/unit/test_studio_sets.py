"""Data sets of studios: what their files say is what a clip shows, and what cannot be used is told in a line."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from data_set_files import write_models, write_mvhumannet, write_mvhumannet_pp
from PIL import Image

from components.bodies.smplx import SmplX
from components.datasets.mvhumannet import Mvhumannet
from components.datasets.mvhumannet_pp import MvhumannetPp
from components.renderers.warp import Warp
from hvg.core.errors import DataError
from hvg.parts.context import Context
from hvg.testing import check_dataset
from hvg.values.cameras import azimuths_degrees, project

SIZE = 96


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def mvhumannet(tmp_path_factory, models):
    return write_mvhumannet(tmp_path_factory.mktemp("mvhumannet"), models)


@pytest.fixture(scope="module")
def plusplus(tmp_path_factory, models):
    return write_mvhumannet_pp(tmp_path_factory.mktemp("plusplus"), models)


def context(models):
    return Context(body=SmplX(SmplX.Config(path=models)), renderer=Warp())


def opened(cls, root, models, split="train", **settings):
    rules = root.parent / f"{root.name}.txt"
    rules.write_text("test-* test\nfirst 1 val\n100022 test\nrest train\n")
    small = {"image_size": SIZE, "splits": str(rules), "distance": 2.8, **settings}
    return cls(cls.Config(root=str(root), split=split, **small), context(models))


def covered(clip, points, near=1) -> torch.Tensor:
    """Share of points (T, N, 3) that lie on the person, per frame and view (V, T); ``near`` pixels away at most."""
    pixels, depth = project(points[None], clip.cameras[0])
    size = clip.cameras.image_size[0]
    cover = torch.nn.functional.max_pool2d(clip.alpha[0, :, :, 0], 2 * near + 1, 1, near)
    column, row = pixels.long().clamp(0, size - 1).unbind(-1)
    views, frames = depth.shape[:2]
    seen = cover[torch.arange(views)[:, None, None], torch.arange(frames)[None, :, None], row, column] > 0.5
    return ((depth > 0) & (pixels >= 0).all(-1) & (pixels < size).all(-1) & seen).float().mean(-1)


def check_filmed(dataset, frames: int) -> None:
    """In every view and frame the body lies on the person who was filmed, and fills what its mask shows."""
    for index in range(len(dataset)):
        clip = dataset.load(index)
        assert clip.grid[2] == frames
        assert float(covered(clip, clip.body.vertices[0]).min()) > 0.95
        for frame in range(frames):
            seen = Warp().render(clip.body.vertices[0, frame : frame + 1], clip.body.faces, clip.cameras[0, :, frame])
            mesh, cover = seen.face >= 0, clip.alpha[0, :, frame, 0] > 0.5
            assert float((mesh & cover).sum() / (mesh | cover).sum()) > 0.8
        # The floor is at height 0, and they stand on it.
        assert abs(float(clip.body.vertices[0, :, :, 1].min())) < 0.35
        assert float(clip.body.place("head")[0, 0, 1]) > 1.0


def test_mvhumannet_is_where_its_files_say(mvhumannet, models):
    dataset = opened(Mvhumannet, mvhumannet, models)
    assert [clip.clip_id for clip in dataset._clips] == ["100023"]
    check_filmed(dataset, frames=3)


def test_folders_may_be_called_as_in_the_readme(tmp_path, mvhumannet, models):
    root = write_mvhumannet(tmp_path, models, names=("images", "fmask"))
    clips = [opened(Mvhumannet, where, models).load(0) for where in (root, mvhumannet)]
    assert torch.equal(clips[0].frames, clips[1].frames) and torch.equal(clips[0].alpha, clips[1].alpha)


def test_frames_without_a_body_or_a_picture_are_said(copied, models):
    root, outfit = copied
    (outfit / "smplx" / "smpl" / "000001.json").unlink()
    (note,) = Mvhumannet.holdings(opened(Mvhumannet, root, models).config).notes
    assert note == f"{outfit}: 1 of its 3 frames lack a body, or a picture or mask of some camera, and are not used"


def test_mvhumannet_plusplus_is_where_its_files_say(plusplus, models):
    for split, names in (("train", ["train-100832", "train-100833"]), ("test", ["test-100834"])):
        dataset = opened(MvhumannetPp, plusplus, models, split)
        assert [clip.clip_id for clip in dataset._clips] == names
        check_filmed(dataset, frames=3)


@pytest.fixture
def copied(tmp_path, mvhumannet):
    """A folder of one's own to damage, and its outfit for training."""
    root = tmp_path / "MVHumanNet"
    shutil.copytree(mvhumannet, root)
    return root, root / "100023"


@pytest.mark.parametrize("scale", [1.0, 100 / 65])
def test_a_translation_of_another_scale_is_seen(copied, models, scale):
    """The check of where people lie is one: the usual mistakes with these cameras fail it."""
    root, outfit = copied
    (outfit / "camera_scale.pkl").write_bytes(pickle.dumps(scale))
    dataset = opened(Mvhumannet, root, models, crop=False)
    try:
        assert float(covered(dataset.load(0), dataset.load(0).body.vertices[0], near=0).mean()) < 0.7
    except DataError as error:
        assert "expected 2448 x 2048 as its camera says" in str(error)


def test_cameras_of_the_other_studio_have_another_size(tmp_path, models):
    root = write_mvhumannet(tmp_path / "other", models, count=3, frames=1, views=2, scale=100 / 65)
    for folder in root.glob("*/*_lr/*"):
        for path in folder.iterdir():
            _squeeze(path)
    check_filmed(opened(Mvhumannet, root, models), frames=1)


def _squeeze(path):
    """A picture of the other cameras' shape."""
    Image.open(path).resize((245, 205)).save(path)


def test_bodies_belong_to_pictures_by_the_frame_of_the_film(copied, mvhumannet, models):
    """Of a body that is missing the picture is not used; the others keep theirs."""
    root, outfit = copied
    whole = opened(Mvhumannet, mvhumannet, models).load(0)
    (outfit / "smplx" / "smpl" / "000001.json").unlink()
    fewer = opened(Mvhumannet, root, models).load(0)
    assert fewer.grid[2] == 2
    assert torch.allclose(fewer.body.joints, whole.body.joints[:, [0, 2]], atol=1e-5)
    assert float(covered(fewer, fewer.body.vertices[0]).min()) > 0.95


def test_the_rows_of_all_bodies_are_those_of_every_25th_frame(tmp_path, plusplus, models):
    root = tmp_path / "main_data"
    shutil.copytree(plusplus, root)
    for path in (root / "train" / "100832").glob("*/*/0025.*"):
        path.unlink()
    clip = opened(MvhumannetPp, root, models).load(0)
    assert clip.clip_id == ("train-100832",) and clip.grid[2] == 2
    assert float(covered(clip, clip.body.vertices[0]).min()) > 0.95


def test_cameras_go_around_and_those_of_a_ring_can_be_chosen(mvhumannet, models):
    clip = opened(Mvhumannet, mvhumannet, models).load(0)
    turns = azimuths_degrees(clip.cameras[0, :, 0]).diff().remainder(360)
    assert bool((turns > 0).all()) and float(turns.sum()) < 360
    low = opened(Mvhumannet, mvhumannet, models, camera_heights=(1.0, 1.3)).load(0)
    assert low.grid[1] == 2 and bool((low.cameras.centers[..., 1] < 1.3).all())


@pytest.mark.parametrize("cls", [Mvhumannet, MvhumannetPp])
def test_studios_keep_the_promises_of_a_dataset(cls, mvhumannet, plusplus, models):
    root = mvhumannet if cls is Mvhumannet else plusplus
    settings = opened(cls, root, models).config
    check_dataset(cls, settings.model_copy(update={"image_size": 32, "views": 2}), context(models), clips=1)


def broken(outfit, what):
    extrinsics = outfit / "camera_extrinsics.json"
    content = json.loads(extrinsics.read_text())
    if what == "no scale":
        (outfit / "camera_scale.pkl").unlink()
    elif what == "a scale of text":
        (outfit / "camera_scale.pkl").write_bytes(pickle.dumps("large"))
    elif what == "a scale that is a program":
        (outfit / "camera_scale.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    elif what == "a rotation of two rows":
        next(iter(content.values()))["rotation"].pop()
        extrinsics.write_text(json.dumps(content))
    elif what == "no JSON":
        extrinsics.write_text(extrinsics.read_text()[:100])
    elif what == "no masks":
        shutil.rmtree(outfit / "fmask_lr")
    elif what == "a camera with few pictures":
        for path in sorted((outfit / "images_lr" / "CC32871A005").iterdir())[1:]:
            path.unlink()
    elif what == "no bodies":
        shutil.rmtree(outfit / "smplx")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no scale", "camera_scale.pkl: there is no such file"),
        ("a scale of text", "camera_scale.pkl: holds large; expected the cameras' scale"),
        ("a scale that is a program", "camera_scale.pkl: asks for 'os.system'"),
        (
            "a rotation of two rows",
            "camera_extrinsics.json: 'rotation' has the shape (2, 3); expected finite numbers (3, 3)",
        ),
        ("no JSON", "camera_extrinsics.json: damaged or no JSON"),
        ("no masks", "holds no fmask_lr and no fmask"),
        ("a camera with few pictures", "camera CC32871A005 has 1 of 3 frames with masks"),
        ("no bodies", "no frame has pictures and masks of all 4 cameras and a body"),
    ],
)
def test_an_outfit_that_cannot_be_used_is_named_with_the_reason(copied, models, what, told):
    root, outfit = copied
    broken(outfit, what)
    with pytest.raises(DataError) as error:
        opened(Mvhumannet, root, models)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_damaged_files_of_plusplus_are_named(tmp_path, plusplus, models):
    root = tmp_path / "main_data"
    shutil.copytree(plusplus, root)
    outfit = root / "train" / "100832"
    np.savez(outfit / "cameras" / "cam_00" / "camera.npz", intrinsic=np.eye(3), extrinsic=np.eye(4))
    shutil.rmtree(root / "train" / "100833" / "cameras")
    with pytest.raises(DataError) as error:
        opened(MvhumannetPp, root, models)
    assert "camera.npz: 'extrinsic' has the shape (4, 4); expected finite numbers (3, 4)" in str(error.value)
    assert "100833: holds no cameras; expected images/cam_00/0025.jpg" in str(error.value)
