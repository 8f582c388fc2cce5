"""Every registered conditioner keeps the promises that hvg.testing spells out."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from pydantic import ValidationError
from tiny_backbones import BACKBONES
from tiny_reconstructors import PARTS

from hvg.core.errors import HvgError
from hvg.geometry.ellipsoids import ellipsoids_from_bones, render
from hvg.geometry.skeleton import JOINTS, bone_index, complete_joints
from hvg.parts import registry
from hvg.parts.scene import BodyModel
from hvg.testing import build, check_conditioner, nudged, tiny_batch, tiny_context

# Settings beyond the defaults that change what a conditioner is.
VARIANTS = {
    "appearance_render": [
        {"maps": ("normal", "alpha", "rgb", "depth"), "supersampling": 2},
        {"encoder": "codec_cnn"},
        {"encoder": "modulator", "inject": "both", "channels_by": "codec", "residual": "render"},
    ],
    "camera_angles": [{"network": "mlp", "width": 4}],
    "camera_matrix": [{"network": "mlp"}, {"width": 0}],
    "camera_rotation": [{"network": "mlp", "width": 32}],
    "camera_moves": [{"values": "as_said", "width": 4}],
    "camera_prompt": [
        {"tells": "path"},
        {"encoder": "umt5", "encoder_settings": {"precision": "32"}},
    ],
    "camera_rays": [{"relative_to": "world"}, {"inject": "channels"}],
    "clip_image": [{"views": "first"}, {"photos": 2}],
    "bone_map": [
        {"maps": ("normal",)},
        {"maps": ("depth",), "supersampling": 2},
        {"inject": "channels"},
        {"inject": "both"},
        {"encoder": "modulator"},
        {"encoder": "codec_cnn"},
        {"inject": "both", "channels_by": "codec"},
        {"encoder": "controlnet"},
        {"encoder": "controlnet", "inject": "both"},
        {"encoder": "attention"},
        {"encoder": "codec_patch"},
    ],
    "hvg": [
        {"maps": ("bone_depth",)},
        {"maps": ("bone_normal",)},
        {"maps": ("skeleton",)},
        {"maps": ("smpl_normal",)},
        {"maps": ("smpl_normal", "bone_depth"), "heads": 4, "depth": "frame", "supersampling": 2},
        {"inject": "channels"},
        {"inject": "both"},
        {"encoder": "guider"},
        {"encoder": "codec_cnn", "inject": "both", "channels_by": "codec"},
    ],
    "driving_memory": [{"sites": "down_mid"}, {"level": 0.5, "trainable": False}],
    "landmark_tokens": [
        {"axes": "camera", "layers": 0},
        {"axes": "world", "joints": ("pelvis", "left_wrist"), "heads": 2},
    ],
    "pose_tokens": [{"axes": "camera"}, {"axes": "world", "layers": 0}],
    "reference_latent": [
        {"scaled": False, "noise_augmentation": 0.1},
        {"views": "first"},
        {"photos": 2},
        {"mask": 4, "photos": 2},
    ],
    "reference_net": [
        {"sites": "all"},
        {"trainable": False},
        {"checkpointing": "blocks"},
        {"views": "first"},
        {"photos": 2},
    ],
    "reference_pictures": [{"views": "first"}, {"photos": 2}, {"photos": 2, "layout": "wide"}],
    "reference_tokens": [{"views": "first"}, {"photos": 2}],
    "prompt": [
        {"prompt": "a person in red", "encoder_settings": {"max_tokens": 8, "layers": 1}},
        *({"encoder": name, "encoder_settings": {"precision": "32"}} for name in ("umt5", "t5", "clip")),
        {"encoder": "umt5", "encoder_settings": {"max_tokens": 9}, "too_long": "cut", "negative": "a coat"},
    ],
    "motion_tokens": [
        {"auxiliary": "none"},
        {"hands": "crops", "width": 16, "heads": 2, "depth": 1, "size": 16, "hand_size": 8, "loss_schedule": "cosine"},
        {"inject": "channels", "width": 16, "depth": 1},
        {"looks_at": "face", "width": 16, "heads": 2, "depth": 1, "size": 16},
    ],
    "part_map": [{"maps": ("part", "mask"), "supersampling": 2}, {"maps": ("normal", "depth", "part", "mask")}],
    "semantic_map": [{"maps": ("part", "depth"), "supersampling": 2, "inject": "both"}, {"maps": ("mask",)}],
    "smpl_depth": [{"depth": "frame", "supersampling": 2}],
    "smpl_normal": [
        {"axes": "world"},
        {"supersampling": 2},
        {"inject": "both"},
        {"encoder": "codec_cnn"},
        {"encoder": "modulator"},
    ],
    "iuv": [{"supersampling": 2}, {"encoder": "controlnet"}, {"encoder": "attention"}],
    "skeleton": [{"widths": (8, 8)}, {"inject": "channels"}, {"also": ("hands", "face")}, {"encoder": "codec_patch"}],
    "task_switch": [{"join": "concatenated"}, {"width": 4}],
}
# The setting that names a published model's folder: the tests have a small one.
FOLDERS = {"clip_image": "path"}
CASES = [(name, settings) for name in registry.names("conditioner") for settings in [{}, *VARIANTS.get(name, [])]]
# Those whose shapes follow the backbone's sites in other ways than the defaults.
TRANSFORMER_CASES = [
    *((name, {}) for name in registry.names("conditioner")),
    ("bone_map", {"inject": "both", "channels_by": "codec"}),
    ("bone_map", {"inject": "channels"}),
    ("bone_map", {"encoder": "codec_cnn"}),
    ("bone_map", {"encoder": "controlnet"}),
    ("reference_net", {"sites": "all"}),
    ("appearance_render", {"inject": "both", "channels_by": "codec", "residual": "render"}),
]
POSE = ("bone_map", "skeleton", "smpl_normal")


class Nobody(BodyModel):
    """A body model of which nobody asks a body."""

    def animate(self, motion, shape=None, *, mesh=True):
        raise NotImplementedError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_conditioner(name, settings, svd_folder, text_folder, package):
    keeps_its_promises(name, settings, context_of("svd_unet"), svd_folder, text_folder, package)


@pytest.mark.parametrize(("name", "settings"), TRANSFORMER_CASES, ids=str)
def test_conditioner_of_a_transformer(name, settings, svd_folder, text_folder, package):
    keeps_its_promises(name, settings, context_of("wan_dit"), svd_folder, text_folder, package)


@cache
def context_of(backbone):
    return tiny_context(backbone, BACKBONES[backbone]) if backbone != "svd_unet" else tiny_context()


def keeps_its_promises(name, settings, context, svd_folder, text_folder, package):
    part = registry.load("conditioner", name)
    given = {FOLDERS[name]: str(svd_folder)} if name in FOLDERS else {}
    if name in ("prompt", "camera_prompt") and "encoder" in settings:
        given = {"path": str(text_folder / settings["encoder"])}
    if name == "appearance_render":
        package(PARTS)
        given, context = {"reconstructor": "copied"}, replace(context, body=Nobody())
    check_conditioner(part, part.Config(**settings, **given), context)


@pytest.mark.parametrize("inject", ["stem", "channels", "both"])
def test_pose_arms_differ_only_in_their_signal(inject):
    """Same encoder, same weights at the same seed; or an ablation would compare encoders."""
    context = tiny_context()
    states = []
    for name in POSE:
        part = registry.load("conditioner", name)
        states.append(build(part, part.Config(inject=inject), context).state_dict())
    for other in states[1:]:
        assert other.keys() == states[0].keys()
        assert all(torch.equal(other[key], states[0][key]) for key in other)


def test_normals_in_world_axes_are_those_of_the_camera_turned_back():
    """A place on a person that stands still has one colour from everywhere; the outline is the same."""
    part, batch = registry.load("conditioner", "smpl_normal"), tiny_batch(views=4, size=64)
    camera, world = (build(part, part.Config(axes=axes), tiny_context()).signal(batch) for axes in ("camera", "world"))
    rotation = batch.cameras.world_to_camera[..., :3, :3]
    turned = torch.einsum("bvtij,bvtjhw->bvtihw", rotation, world[:, :, :, :3])
    torch.testing.assert_close(turned, camera[:, :, :, :3], rtol=0, atol=1e-5)
    assert torch.equal(world[:, :, :, 3], camera[:, :, :, 3])
    # The front of a box that faces +z, as the camera before it sees it, and no camera behind.
    front = world[:, 0, :, 2, 24:40, 24:40]
    assert (front > 0.7).any() and not (world[:, 2, :, 2] > 0.7).any()


@pytest.mark.parametrize("name", [*POSE, "hvg", "part_map", "semantic_map", "smpl_depth", "iuv"])
def test_pose_map_shows_the_person(name):
    part = registry.load("conditioner", name)
    signal = build(part, part.Config(), tiny_context()).signal(tiny_batch(size=64))
    shown = signal.abs().amax(dim=3) > 0
    assert signal[..., 0, 0].eq(0).all(), "the background is 0"
    # The person stands in the middle: every view and frame sees something there, and less than half of the image is
    # covered.
    assert shown[..., 24:40, 24:40].flatten(3).any(-1).all()
    assert shown.float().mean() < 0.5


def test_bone_map_depth_is_bright_when_near():
    part = registry.load("conditioner", "bone_map")
    batch = tiny_batch(clips=1, views=1, frames=1, size=64)
    near, far = (batch.body.joints.clone() for _ in range(2))
    names = list(batch.body.joint_names)
    wrists = [names.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("wrist", "middle1")]
    near[:, :, wrists, 2] += 0.4
    far[:, :, wrists, 2] -= 0.4
    draw = build(part, part.Config(maps=("depth",)), tiny_context()).signal
    bright, dark = (draw(_with_joints(batch, joints)) for joints in (near, far))
    assert bright.max() > dark.max()
    assert bright[bright > 0].min() >= 0.1 and bright.max() <= 1


def draw(name, batch, **settings):
    part = registry.load("conditioner", name)
    return build(part, part.Config(**settings), tiny_context()).signal(batch)


@pytest.mark.parametrize(("name", "first"), [("bone_map", "normal"), ("hvg", "bone_normal")])
@pytest.mark.parametrize("depth", ["metric", "frame"])
def test_the_range_of_depth_changes_depth_alone(name, first, depth):
    batch = tiny_batch(size=64)
    usual, other = draw(name, batch), draw(name, batch, depth=depth)
    assert torch.equal(usual[:, :, :, :3], other[:, :, :, :3])
    assert torch.equal(usual[:, :, :, 3] > 0, other[:, :, :, 3] > 0)
    assert not torch.equal(usual, other)
    assert torch.equal(other[:, :, :, :3], draw(name, batch, maps=(first,), depth=depth))


def test_depth_per_frame_spans_the_whole_range_on_every_image():
    batch = tiny_batch(size=64)
    depth = draw("bone_map", batch, maps=("depth",), depth="frame")
    assert depth.flatten(3).amax(-1).eq(1).all()
    assert depth.where(depth > 0, 1.0).flatten(3).amin(-1).eq(torch.tensor(0.1)).all()
    # A person twice as large, seen from twice as far, looks the same.
    body, cameras = batch.body, batch.cameras
    far = cameras.world_to_camera.clone()
    far[..., :3, 3] *= 2
    twice = replace(
        batch,
        body=replace(body, joints=2 * body.joints, bone_radii=2 * body.bone_radii),
        cameras=replace(cameras, world_to_camera=far),
    )
    assert torch.allclose(draw("bone_map", twice, maps=("depth",), depth="frame"), depth, atol=1e-4)


def test_depth_per_frame_without_a_person_is_background():
    batch = tiny_batch()
    away = _with_joints(batch, batch.body.joints + 100)
    assert not draw("bone_map", away, depth="frame").any()


def test_metric_depth_is_a_line_from_near_to_far():
    batch = tiny_batch(size=64)
    joints, cameras = complete_joints(batch.body.joints, batch.body.joint_names), batch.cameras
    first, second = bone_index(JOINTS, joints.device)
    radii = batch.body.bone_radii[:, None, None]
    image = render(ellipsoids_from_bones(joints[:, None, :, first], joints[:, None, :, second], radii), cameras)
    depth = draw("bone_map", batch, maps=("depth",), depth="metric", near=2.0, far=5.0)[:, :, :, 0]
    seen = image.distance[image.mask]
    assert seen.min() > 2 and seen.max() < 5
    assert torch.allclose(depth[image.mask], 0.1 + 0.9 * (5 - seen) / 3)
    assert not depth[~image.mask].any()
    nearest_first = depth[image.mask][seen.argsort()]
    assert (nearest_first.diff() <= 0).all() and nearest_first[0] > nearest_first[-1]
    # Beyond the range it is clamped: the background stays the only 0.
    clamped = draw("bone_map", batch, maps=("depth",), depth="metric", near=0.5, far=1.0)[:, :, :, 0]
    assert torch.allclose(clamped[image.mask], torch.tensor(0.1))


@pytest.mark.parametrize("name", ["bone_map", "hvg"])
@pytest.mark.parametrize("given", [{"near": 3.0, "far": 2.0}, {"near": 7.0}])
def test_far_lies_beyond_near(name, given):
    with pytest.raises(ValidationError, match="has to lie beyond near"):
        registry.load("conditioner", name).Config(**given)


def test_hvg_draws_what_the_parts_of_these_names_draw():
    batch = tiny_batch()
    bones = draw("bone_map", batch)
    expected = {
        ("bone_normal", "bone_depth"): bones,
        ("bone_depth", "bone_normal"): torch.cat([bones[:, :, :, 3:], bones[:, :, :, :3]], dim=3),
        ("bone_normal",): bones[:, :, :, :3],
        ("bone_depth",): bones[:, :, :, 3:],
        ("skeleton",): draw("skeleton", batch),
        ("smpl_normal",): draw("smpl_normal", batch),
        ("skeleton", "bone_depth"): torch.cat([draw("skeleton", batch), bones[:, :, :, 3:]], dim=3),
    }
    for maps, drawn in expected.items():
        assert torch.equal(draw("hvg", batch, maps=maps), drawn), maps


def test_hvg_with_one_map_is_the_shared_guider():
    """Same weights at the same seed, so its arms compare with the other pose signals."""
    context = tiny_context()
    part, skeleton = registry.load("conditioner", "hvg"), registry.load("conditioner", "skeleton")
    ours = build(part, part.Config(maps=("skeleton",)), context).state_dict()
    shared = build(skeleton, skeleton.Config(), context).state_dict()
    assert len(ours) == len(shared)
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), shared.values(), strict=True))


@pytest.mark.parametrize("inject", ["stem", "both"])
def test_a_bone_map_in_the_modulator_is_hvg_s_signal(inject):
    """Signal and encoder are two words: the same map, the same weights, the same sum."""
    batch, context = tiny_batch(), tiny_context()
    parts = [registry.load("conditioner", name) for name in ("bone_map", "hvg")]
    mine, theirs = (nudged(build(p, p.Config(encoder="modulator", inject=inject), context)) for p in parts)
    assert len(mine.state_dict()) == len(theirs.state_dict())
    made = [part(part.signal(batch), batch).residuals["stem"] for part in (mine, theirs)]
    assert torch.equal(*made) and made[0].any()


def test_weights_lie_where_checkpoints_of_before_have_them():
    """Before encoders were parts, the guider lay under its name and hvg's layers in the conditioner."""
    context, tops = tiny_context(), {}
    for name, encoder in (("bone_map", None), ("hvg", None), ("bone_map", "codec_cnn"), ("hvg", "guider")):
        part = registry.load("conditioner", name)
        config = part.Config() if encoder is None else part.Config(encoder=encoder)
        keys = build(part, config, context).state_dict()
        tops[name, encoder] = {key.split(".")[0] for key in keys}
    assert tops == {
        ("bone_map", None): {"guider"},
        ("hvg", None): {"guiders", "fusion", "projection"},
        ("bone_map", "codec_cnn"): {"codec_cnn"},
        ("hvg", "guider"): {"guider"},
    }


def changed_cells(batch, drawn, change, **settings):
    """Where the output (h, w) of hvg changes with its map; size 32 at stride 4 makes 8 x 8 cells."""
    cls = registry.load("conditioner", "hvg")
    part = nudged(build(cls, cls.Config(**settings), tiny_context()))
    before, after = (part(x, batch).residuals["stem"] for x in (drawn, change(drawn.clone())))
    return (before != after)[0, 0, 0].any(0)


def test_cross_attention_carries_depth_everywhere_and_normals_stay_where_they_are():
    batch = tiny_batch(clips=1, views=1, frames=1)

    def corner(channels):
        def change(signal):
            signal[..., channels, :4, :4] = 1.0
            return signal

        return change

    drawn = draw("hvg", batch)
    assert changed_cells(batch, drawn, corner(slice(3, 4))).all()
    # With one map nothing is seen beyond the guider's own reach.
    without_depth = changed_cells(batch, drawn[:, :, :, :3], corner(slice(0, 3)), maps=("bone_normal",))
    assert without_depth[0, 0] and not without_depth[-1, -1]


def test_arms_do_not_react_to_what_only_the_missing_map_shows():
    """The range of depth is seen by depth alone, the mesh by its normals alone."""
    batch = tiny_batch(clips=1, views=1, frames=1)
    taller = replace(batch, body=replace(batch.body, vertices=1.2 * batch.body.vertices))
    settings = {"bone_normal": {"depth": "frame"}, "bone_depth": {}, "skeleton": {}}
    for name, other in settings.items():
        assert torch.equal(draw("hvg", batch, maps=(name,)), draw("hvg", taller, maps=(name,), **other))
    assert not torch.equal(draw("hvg", batch, maps=("smpl_normal",)), draw("hvg", taller, maps=("smpl_normal",)))


def test_hvg_needs_a_mesh_only_for_its_normals():
    part = registry.load("conditioner", "hvg")
    assert part.needs(part.Config()) == {"body", "cameras"}
    assert part.needs(part.Config(maps=("smpl_normal",))) == {"body", "body.vertices", "cameras"}


@pytest.mark.parametrize(("width", "heads"), [(12, 1), (64, 1), (128, 2), (224, 4), (256, 4), (320, 5)])
def test_heads_are_about_64_wide(width, heads):
    context = tiny_context()
    site = replace(context.ports.residuals["stem"], channels=width)
    context = replace(context, ports=replace(context.ports, residuals={"stem": site}))
    part = registry.load("conditioner", "hvg")
    assert build(part, part.Config(widths=(8, 8, 8, width)), context).fusion.num_heads == heads


def test_hvg_refuses_a_map_twice_and_heads_that_do_not_divide():
    part = registry.load("conditioner", "hvg")
    with pytest.raises(ValidationError, match="twice"):
        part.Config(maps=("skeleton", "skeleton"))
    with pytest.raises(HvgError, match="heads=5 does not divide the 32 channels"):
        part.spec(part.Config(heads=5), tiny_context().ports)


def _with_joints(batch, joints):
    return replace(batch, body=replace(batch.body, joints=joints))
