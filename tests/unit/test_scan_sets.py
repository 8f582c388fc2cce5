"""Data sets of scans: pictures, bodies and scans fit each other, and what cannot be used is told in a line."""

import json
import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_set_files import write_custom_humans, write_models, write_thuman, write_two_k2k
from scipy.spatial import cKDTree

from components.bodies.anny import Anny
from components.bodies.smplx import SmplX
from components.datasets.custom_humans import CustomHumans
from components.datasets.thuman import Thuman
from components.datasets.two_k2k import TwoK2k
from components.people.scan_clips import ScanClips
from components.people.scans import _sampled
from components.renderers.warp import Warp
from hvg.core.errors import ConfigError, DataError
from hvg.parts.context import SceneContext
from hvg.testing import check_dataset
from hvg.values.cameras import project

SIZE = 96


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def thuman(tmp_path_factory, models):
    return write_thuman(tmp_path_factory.mktemp("thuman"), models)


@pytest.fixture
def copied(tmp_path, models):
    """A folder of one's own to damage."""
    return write_thuman(tmp_path, models, count=3)


def context(models) -> SceneContext:
    return SceneContext(body=SmplX(SmplX.Config(path=models, gender="male")), renderer=Warp())


def opened(cls: type[ScanClips], root, models, split="train", **settings) -> ScanClips:
    small = {"views": 3, "image_size": SIZE, "splits": str(thirds(root)), **settings}
    return cls(cls.Config(root=str(root), split=split, **small), context(models))


def thirds(root):
    rules = root.parent / "mine.txt"
    rules.write_text("first 1 val\nfirst 1 test\nrest train  # the others\n")
    return rules


def share_inside(clip) -> float:
    """Share of the joints of limbs and trunk that lie on the person, over all views; at a pixel's distance."""
    cameras = clip.cameras[0, :, 0]
    pixels, depth = project(clip.body.joints[0, 0, :22].expand(len(cameras.world_to_camera), 22, 3), cameras)
    cover = torch.nn.functional.max_pool2d(clip.alpha[0, :, 0], 3, 1, 1)[:, 0]
    column, row = pixels.long().unbind(-1)
    inside = (pixels >= 0).all(-1) & (pixels < SIZE).all(-1) & (depth > 0)
    row, column = row.clamp(0, SIZE - 1), column.clamp(0, SIZE - 1)
    return float((inside & (cover[torch.arange(len(cover))[:, None], row, column] > 0.5)).float().mean())


def check_placed(dataset: ScanClips) -> None:
    """Scan, body, cameras and pictures of every clip lie where the others say."""
    for index, name in enumerate(dataset._names):
        scan, body = dataset._placed(name)
        clip = dataset.load(index)
        assert cKDTree(body.vertices[0, 0].numpy()).query(scan.vertices.numpy())[0].max() < 1e-4
        assert abs(float(scan.vertices[:, 1].min())) < 1e-5
        assert body.place("pelvis")[0, 0, [0, 2]].abs().max() < 1e-5
        assert share_inside(clip) == 1
        # In front of the person their left is on the right.
        places = torch.stack([clip.body.place(f"{side}_shoulder")[0, 0] for side in ("left", "right")])
        left, right = project(places, clip.cameras[0, 0, 0])[0][:, 0].tolist()
        assert left - right > 0.1 * SIZE
        mesh = dataset._renderer.render(clip.body.vertices[0], clip.body.faces, clip.cameras[0, :, 0]).face >= 0
        cover = clip.alpha[0, :, 0, 0] > 0.5
        assert float((mesh & cover).sum() / (mesh | cover).sum()) > 0.9


def test_thuman_is_where_its_fits_say(thuman, models):
    dataset = opened(Thuman, thuman, models)
    assert [dataset.clip_id(name) for name in dataset._names] == ["thuman-0002", "thuman-0003"]
    check_placed(dataset)
    # Scans differ in size; people do not by as much.
    tall = [float(x.max() - x.min()) for x in (dataset.load(k).body.joints[..., 1] for k in range(2))]
    assert all(1.3 < height < 1.9 for height in tall)


def test_custom_humans_are_where_their_fits_say(tmp_path, models):
    """Whatever a fit says of its place, as the authors' own code has it; in both layouts."""
    root = write_custom_humans(tmp_path, models, count=3)
    fit = root / "smplx" / "0005_00100_01" / "mesh-f00103.json"
    fit.write_text(json.dumps({**json.loads(fit.read_text()), "transl": [9.0, 9.0, 9.0]}))
    apart = opened(CustomHumans, root, models)
    assert [apart.clip_id(name) for name in apart._names] == ["custom_humans-0005_00100_01"]
    check_placed(apart)
    together = tmp_path / "training_dataset"
    for kind in ("mesh", "smplx"):
        shutil.copytree(root / kind, together, dirs_exist_ok=True)
    assert torch.equal(opened(CustomHumans, together, models).load(0).frames, apart.load(0).frames)


def test_two_k2k_are_where_their_fits_say(tmp_path, models):
    root = write_two_k2k(tmp_path, models, count=3)
    check_placed(opened(TwoK2k, root, models, fits=tmp_path / "fits"))
    official = TwoK2k(TwoK2k.Config(root=str(root), split="test", fits=tmp_path / "fits"), context(models))
    assert official._names == ["test-00009"]
    clip = opened(TwoK2k, root, models, fits=tmp_path / "fits", views=1).load(0)
    # Blue at the head, none at the feet, as the vertices are.
    rows = (clip.frames[0, 0, 0, 2] * (clip.alpha[0, 0, 0, 0] == 1) + 1)[:, :].amax(1)
    there = (clip.alpha[0, 0, 0, 0] == 1).any(1).nonzero()[:, 0]
    assert float(rows[there[0]]) > 1.8 and float(rows[there[-1]]) < 1.2


@pytest.mark.parametrize("cls", [CustomHumans, TwoK2k])
def test_the_other_scans_keep_the_promises_of_a_dataset(cls, tmp_path, models):
    root = (write_custom_humans if cls is CustomHumans else write_two_k2k)(tmp_path, models, count=3)
    more = {"fits": tmp_path / "fits"} if cls is TwoK2k else {}
    settings = cls.Config(root=str(root), views=2, image_size=32, splits=str(thirds(root)), **more)
    check_dataset(cls, settings, context(models), clips=1)


def test_a_translation_that_is_scaled_as_bodies_are_is_seen(thuman, models):
    """The check of where people lie is one: the usual mistake with these fits fails it."""
    dataset = opened(Thuman, thuman, models)
    clip = dataset.load(1)
    wrong = clip.body.shifted(torch.full((1, 1, 3), 0.3))
    assert share_inside(replace(clip, body=wrong)) < 0.5


def test_thuman_keeps_the_promises_of_a_dataset(thuman, models):
    settings = {"views": 2, "image_size": 32, "splits": str(thirds(thuman)), "elevation_degrees": (-10, 20)}
    check_dataset(Thuman, Thuman.Config(root=str(thuman), **settings), context(models), clips=2)


def test_colours_are_those_of_the_texture(thuman, models):
    """What the camera in front sees is the texture that lies on the person from there."""
    dataset = opened(Thuman, thuman, models, views=1)
    surface, clip = dataset.surface(0), dataset.load(0)
    scan, _ = dataset._placed(dataset._names[0])
    face, barycentric = surface.face[0, 0], surface.barycentric[0, 0]
    inner = torch.nn.functional.max_pool2d((face < 0)[None, None].float(), 3, 1, 1)[0, 0] == 0
    seen = (clip.frames[0, 0, 0].movedim(0, -1)[inner] + 1) * 127.5
    assert float((seen - scan.colour(face[inner], barycentric[inner])).abs().mean()) < 6
    assert (clip.frames[0, 0, 0][:, face < 0][:, clip.alpha[0, 0, 0, 0][face < 0] == 0] == 1).all()


def test_a_texture_is_looked_up_between_its_pixels_and_begins_anew():
    texture = torch.randint(0, 256, (3, 8, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    uv = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))
    around = torch.cat([texture] * 3, 2).repeat(1, 3, 1)[None].float()
    place = torch.stack([(uv[:, 0] + 1) / 3 * 2 - 1, (2 - uv[:, 1]) / 3 * 2 - 1], dim=1)
    known = torch.nn.functional.grid_sample(around, place[None, None], align_corners=False)[0, :, 0].T
    assert (_sampled(texture, uv) - known).abs().max() < 1e-2
    assert torch.allclose(_sampled(texture, uv + torch.tensor([2.0, -1.0])), _sampled(texture, uv), atol=1e-2)


def test_a_body_that_the_fits_are_not_of_is_refused(thuman, models):
    for body in (Anny(), SmplX(SmplX.Config(path=models))):
        with pytest.raises(ConfigError, match=r"choose body=smplx body.gender=male"):
            Thuman(Thuman.Config(root=str(thuman)), SceneContext(body=body, renderer=Warp()))


class Planted:
    """Executed where a pickle is unpickled."""

    def __reduce__(self):
        return (print, ("planted",))


def damaged(root, what):
    scan, fit = root / "0002", root.parent / "THuman2.1_smplx" / "0002" / "smplx_param.pkl"
    values = pickle.loads(fit.read_bytes())
    if what == "planted":
        values["betas"] = Planted()
    elif what == "no translation":
        del values["translation"]
    elif what == "a scale of 0":
        values["scale"] = np.zeros(1, np.float32)
    elif what == "six components":
        values["left_hand_pose"] = values["left_hand_pose"][:, :6]
    elif what == "nan":
        values["body_pose"][0, 0] = np.nan
    elif what == "no fit":
        fit.unlink()
        return
    elif what == "no texture":
        (scan / "material0.jpeg").unlink()
    elif what == "a mesh without uv":
        lines = [line for line in (scan / "0002.obj").read_text().splitlines() if not line.startswith("vt")]
        (scan / "0002.obj").write_text("\n".join(re.sub(r"/\d+", "", line) for line in lines))
    elif what == "no mesh":
        (scan / "0002.obj").write_bytes(b"\x00\x01 nothing")
    fit.write_bytes(pickle.dumps(values))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("planted", "smplx_param.pkl: asks for 'builtins.print', which is never called"),
        ("no translation", "smplx_param.pkl: lacks numbers for 'translation'"),
        ("a scale of 0", "smplx_param.pkl: 'scale' is [0.]; expected one positive number"),
        ("six components", "smplx_param.pkl: hands differ"),
        ("nan", "smplx_param.pkl: 'body_pose' holds NaN"),
        ("no fit", "smplx_param.pkl: there is no such file"),
        ("no texture", "material0.jpeg: no such image file"),
        ("a mesh without uv", "0002.obj: has no (finite) texture coordinates"),
        ("no mesh", "0002.obj: "),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(copied, models, what, told, capsys):
    damaged(copied, what)
    with pytest.raises(DataError) as error:
        opened(Thuman, copied, models).load(0)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert "planted" not in capsys.readouterr().out


def spoil_custom_humans(root, what):
    name = "0005_00100_01"
    fit, scan = root / "smplx" / name / "mesh-f00103.json", root / "mesh" / name
    if what == "no fit":
        fit.unlink()
    elif what == "half a fit":
        fit.write_text(fit.read_text()[:100])
    elif what == "a list":
        fit.write_text("[1, 2]")
    elif what == "no pose":
        fit.write_text(json.dumps({"betas": [0.0] * 10}))
    elif what == "words":
        fit.write_text(json.dumps({**json.loads(fit.read_text()), "betas": ["tall"]}))
    elif what == "two scans":
        shutil.copy(scan / "mesh-f00103.obj", scan / "mesh-f00104.obj")
    elif what == "no picture":
        (scan / "mesh-f00103.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no fit", "mesh-f00103.json: there is no such file; expected the fit of a scan"),
        ("half a fit", "mesh-f00103.json: damaged or no JSON"),
        ("a list", "mesh-f00103.json: holds no names; expected parameters of SMPL-X"),
        ("no pose", "mesh-f00103.json: lacks body_pose; it has betas, global_orient, transl"),
        ("words", "mesh-f00103.json: holds other than numbers"),
        ("two scans", "mesh/0005_00100_01: holds 2 scans; expected one, as mesh-f00101.obj"),
        ("no picture", "mesh-f00103.png: not an image that can be read"),
    ],
)
def test_what_cannot_be_used_of_custom_humans_is_told_in_a_line(tmp_path, models, what, told):
    root = write_custom_humans(tmp_path, models, count=3)
    spoil_custom_humans(root, what)
    with pytest.raises(DataError) as error:
        opened(CustomHumans, root, models).load(0)
    assert told in str(error.value) and "\n" not in str(error.value)


def spoil_two_k2k(root, what):
    scan, fit = root / "test" / "00009" / "00009.ply", root.parent / "fits" / "00009" / "smplx_param.pkl"
    if what == "no scan":
        scan.unlink()
    elif what == "no colours":
        text = scan.read_bytes().replace(b"property uchar red", b"property uchar ped")
        scan.write_bytes(text.replace(b"property uchar green", b"property uchar gleen"))
    elif what == "a scan cut off":
        scan.write_bytes(scan.read_bytes()[:300])
    elif what == "no fit":
        fit.unlink()
    elif what == "a fit of nothing":
        fit.write_bytes(b"")


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no scan", "00009.obj: there is no such file; expected a scan"),
        ("no colours", "00009.ply: has no colours of vertices; expected red, green and blue of each"),
        ("a scan cut off", "00009.ply: "),
        ("no fit", "00009/smplx_param.pkl: there is no such file"),
        ("a fit of nothing", "smplx_param.pkl: "),
    ],
)
def test_what_cannot_be_used_of_two_k2k_is_told_in_a_line(tmp_path, models, what, told):
    root = write_two_k2k(tmp_path, models, count=3)
    spoil_two_k2k(root, what)
    dataset = TwoK2k(TwoK2k.Config(root=str(root), split="test", fits=tmp_path / "fits", views=1), context(models))
    with pytest.raises(DataError) as error:
        dataset.load(0)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.long
def test_scans_and_fits_in_other_layouts_are_the_same(tmp_path, models):
    """THuman2.0 beside 2.1; scans of 2K2K with a texture, and fits as arrays."""
    for version in ("2.0", "2.1"):
        write_thuman(tmp_path / version, models, count=3, version=version)
    old, new = (
        opened(Thuman, tmp_path / version / f"THuman{version}_Release", models, version=version).load(0)
        for version in ("2.0", "2.1")
    )
    assert torch.equal(old.frames, new.frames) and torch.equal(old.body.joints, new.body.joints)
    root = write_two_k2k(tmp_path, models, count=3, textured=True)
    check_placed(opened(TwoK2k, root, models, fits=tmp_path / "fits"))


def test_folders_that_hold_no_scans_or_several_fits_are_told(copied, models, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no scan is here"):
        opened(Thuman, tmp_path / "empty", models)
    (tmp_path / "old_smplx").mkdir()
    with pytest.raises(DataError, match=r"holds THuman2.1_smplx, old_smplx; say which"):
        opened(Thuman, copied, models).load(0)
    fits = tmp_path / "THuman2.1_smplx"
    assert opened(Thuman, copied, models, fits=fits).load(0).grid == (1, 3, 1)
