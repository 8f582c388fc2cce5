"""Fits: errors have the size that they are set to, are the clip's own, and are seen by signals and not by metrics."""

import math
from dataclasses import replace

import pytest
import torch
from body_models import write_body_model
from fit_sizes import clips_of, displaced, person, root_mean_square, turned
from preparing import in_this_process
from test_alignment import Bodiless

from components.bodies.anny import Anny
from components.bodies.smplx import SmplX
from components.fits.errors import Errors
from components.people.error_draws import ErrorDraws
from hvg.commands.show import OBSERVED_COLOUR, TRUE_COLOUR, draw_joints
from hvg.config import checks
from hvg.config.build import build_dataset, build_fit, observed, true_clips
from hvg.config.composition import compose, parse_resolved
from hvg.config.settings import PartChoice
from hvg.core.errors import ConfigError, DataError
from hvg.data.cache import cache_folder, missing_from_cache, open_clips, open_training_clips, shard_paths
from hvg.data.clip_files import decode_clip, encode_clip
from hvg.data.features import encodings
from hvg.data.prepare import prepare
from hvg.data.shards import ShardReader
from hvg.data.signals import NO_SIGNALS, drawn_keys, signal_key, signal_keys, signals_of_all
from hvg.geometry.motion import BODY_JOINTS, Motion
from hvg.geometry.retargeting import relative
from hvg.model.load import build_system
from hvg.parts.as_seen import as_seen
from hvg.parts.context import Context
from hvg.testing import check_fit
from hvg.values.cameras import project
from hvg.values.clip import ClipBatch
from hvg.values.packed import unpacked
from hvg.values.scored_clip import scored_clips, true_clip
from hvg.values.task import clip_task
from hvg.values.tensors import concatenate, tensors_of

FRAMES, CLIPS = 50, 20


@pytest.fixture(scope="module")
def anny():
    return Anny(Anny.Config())


@pytest.fixture(scope="module")
def thousand(anny):
    """1,000 frames: 20 clips of 50."""
    return clips_of(anny, CLIPS, FRAMES, 1)


@pytest.fixture(scope="module")
def short(thousand):
    """The same frames as 200 clips of 5: in 20 long ones half of the noise is 20 draws, whose mean square is off by more."""
    parts = [
        replace(
            thousand.clips(slice(clip, clip + 1)).select(frames=[*range(start, start + 5)]),
            clip_id=(f"clip{clip}, from {start}",),
            frame_index=torch.arange(5)[None],
        )
        for clip in range(CLIPS)
        for start in range(0, FRAMES, 5)
    ]
    return ClipBatch.stack(parts)


def fitted(clip, body, **settings):
    return Errors(Errors.Config(**settings), Context(body=body)).observe(clip)


# --- sizes, over 1,000 frames ---


@pytest.mark.parametrize("millimetres", [5.0, 20.0, 80.0])
@pytest.mark.parametrize("steady", [0.0, 0.5])
def test_joints_are_off_by_the_millimetres_that_are_set(thousand, anny, millimetres, steady):
    seen = fitted(thousand, anny, joint_noise_mm=millimetres, steady_share=steady)
    assert root_mean_square(displaced(seen)) == pytest.approx(millimetres, rel=0.05)
    assert bool((seen.body.confidence == 1).all())


@pytest.mark.parametrize(("joints", "root"), [(3.0, 2.0), (9.0, 6.0), (0.0, 5.0)])
def test_joints_and_root_are_turned_by_the_degrees_that_are_set(thousand, short, anny, joints, root):
    settings = {"rotation_noise_degrees": joints, "root_rotation_noise_degrees": root}
    angles = turned(fitted(thousand, anny, **settings))
    assert root_mean_square(angles[..., 1:]) == pytest.approx(joints, rel=0.05, abs=0.05)
    # Three numbers a frame, which change slowly: 20 clips' draws are off by more than those of 21 joints.
    assert root_mean_square(angles[..., 0]) == pytest.approx(root, rel=0.2)
    angles = turned(fitted(short, anny, **settings))
    assert root_mean_square(angles[..., 1:]) == pytest.approx(joints, rel=0.05, abs=0.05)
    assert root_mean_square(angles[..., 0]) == pytest.approx(root, rel=0.05)


def test_the_root_is_turned_by_as_much_where_every_frame_is_drawn_anew(thousand, anny):
    settings = {"root_rotation_noise_degrees": 4.0, "correlation_frames": 0.0, "steady_share": 0.0}
    angles = turned(fitted(thousand, anny, **settings))
    assert root_mean_square(angles[..., 0]) == pytest.approx(4.0, rel=0.05)


def test_the_root_is_nearer_or_farther_by_what_is_set_along_the_first_camera_s_ray(thousand, anny):
    centre = thousand.cameras.centers[:, 0]
    pelvis = thousand.body.joint_names.index("pelvis")
    ray = torch.nn.functional.normalize(thousand.body.joints[:, :, pelvis] - centre, dim=-1)
    for settings, size in (
        ({"depth_mm": 60.0}, 60.0),
        ({"depth_drift_mm": 40.0}, 40.0),
        ({"depth_mm": 60.0, "depth_drift_mm": 40.0}, math.hypot(60, 40)),
    ):
        seen = fitted(thousand, anny, **settings)
        moved = 1000 * (seen.body.joints - seen.true_body.joints)[:, :, pelvis]
        assert root_mean_square(moved.norm(dim=-1)) == pytest.approx(size, rel=0.05)
        assert float(torch.linalg.cross(moved, ray).norm(dim=-1).max()) < 0.01
    signs = {float(x) for x in torch.sign((seen.body.joints - seen.true_body.joints)[:, 0, pelvis] * ray[:, 0]).sum(-1)}
    assert len(signs) > 1


def test_a_larger_body_is_farther_and_the_first_camera_sees_no_difference(anny):
    clip = clips_of(anny, 6, 3, 2)
    seen = fitted(clip, anny, scale_percent=5.0)
    heights = seen.body.joints.std(dim=2).sum(-1) / clip.body.joints.std(dim=2).sum(-1)
    assert {round(float(x), 4) for x in heights.flatten()} == {0.95, 1.05}
    assert torch.allclose(seen.body.bone_radii / clip.body.bone_radii, heights[:, :1], atol=1e-4)
    for view, same in ((0, True), (1, False)):
        camera = clip.cameras.world_to_camera[:, view, :, None]

        def pixels(body, camera=camera):
            x = (camera[..., :3, :3] @ body.joints[..., None])[..., 0] + camera[..., :3, 3]
            return x[..., :2] / x[..., 2:]

        assert (float((pixels(seen.body) - pixels(clip.body)).abs().max()) < 1e-5) == same


@pytest.mark.parametrize(("share", "length"), [(0.05, 4), (0.2, 8), (0.5, 5)])
def test_limbs_are_dropped_in_the_share_of_frames_that_is_set(anny, share, length):
    seen = fitted(clips_of(anny, 1, 1000, 1), anny, dropped_limbs=share, dropped_frames=length, dropped_confidence=0.25)
    at = {name: seen.body.confidence[..., seen.body.joint_names.index(name)] for name in seen.body.joint_names}
    ends = torch.stack([at[f"{side}_{joint}"] for side in ("left", "right") for joint in ("wrist", "ankle")])
    assert set(ends.unique().tolist()) == {0.25, 1.0}
    assert float((ends < 1).float().mean()) == pytest.approx(share, rel=0.05)
    assert torch.equal(at["left_wrist"], at["left_middle1"]) and torch.equal(at["left_wrist"], at["left_elbow"])
    assert torch.equal(at["right_foot"], at["right_ankle"]) and bool((at["left_shoulder"] == 1).all())
    moved = displaced(seen)[..., BODY_JOINTS.index("left_wrist")]
    assert bool((moved[at["left_wrist"] == 1] < 0.1).all()) and float(moved[at["left_wrist"] < 1].mean()) > 50
    angles = turned(replace(seen, true_body=seen.body))
    assert float(angles.max()) < 0.1


def test_dropped_spans_are_as_long_as_they_are_set():
    frames = torch.arange(2000)
    draws = ErrorDraws(key=(0, "a"), frames=frames, correlation=0.0, steady=0.0)
    found = draws.spans("left_arm", 0.1, 7)
    edges = found.int().diff().nonzero()[:, 0]
    lengths = edges[1:] - edges[:-1]
    assert not found[0] and set(lengths[0::2].tolist()) == {7} and 24 <= len(edges) / 2 <= 30
    many = [replace(draws, key=(0, name)).spans("left_arm", 0.05, 8).float().mean() for name in range(40)]
    assert float(torch.stack(many).mean()) == pytest.approx(0.05, rel=0.02)


def test_hands_at_rest_continue_their_forearms(anny):
    clip = clips_of(anny, 2, 3)
    seen = fitted(clip, anny, hands="rest")
    for body, rest in ((clip.body, False), (seen.body, True)):
        local = relative(body.parameters["rotations"][0])
        assert (float(local["left_wrist"].abs().max()) < 1e-3) == rest
    sure = seen.body.confidence[0, 0]
    low = {name for name, x in zip(seen.body.joint_names, sure.tolist(), strict=True) if x < 1}
    assert low == {"left_middle1", "right_middle1"}


def test_the_shape_is_somebody_else_s_or_the_mean_person_s(anny):
    clip = clips_of(anny, 3, 2)
    own = clip.body.constants["shape"]
    mean = fitted(clip, anny, shape="mean").body.constants["shape"]
    assert torch.allclose(mean, torch.full_like(mean, 0.5))
    half = fitted(clip, anny, shape="mean", shape_share=0.5).body.constants["shape"]
    assert torch.allclose(half, (own + mean) / 2)
    seen = fitted(clip, anny, shape="other")
    other = seen.body.constants["shape"]
    assert len({tuple(x.tolist()) for x in other}) == 3 and float((other - own).abs().max()) > 0.1
    assert float(turned(seen).max()) < 0.1
    assert float(displaced(seen)[..., 0].max()) < 0.01 and float(displaced(seen).max()) > 10
    assert not torch.equal(seen.body.bone_radii, clip.body.bone_radii)


def test_of_the_mesh_alone_joints_and_bones_stay_true(anny):
    """So signals of joints see no error, and those of the mesh the same one as of the whole body."""
    clip = clips_of(anny, 2, 3)
    clip = replace(clip, body=concatenate([person(anny, number, 3, mesh=True) for number in range(2)]))
    errors = {
        "rotation_noise_degrees": 6.0,
        "shape": "other",
        "dropped_limbs": 0.5,
        "dropped_frames": 1,
        "depth_mm": 50.0,
    }
    whole, mesh = fitted(clip, anny, **errors).body, fitted(clip, anny, **errors, of="mesh").body
    assert torch.equal(mesh.vertices, whole.vertices) and not torch.allclose(
        mesh.vertices, clip.body.vertices, atol=0.01
    )
    assert torch.equal(mesh.skinning.transforms, whole.skinning.transforms)
    for name in ("joints", "bone_radii"):
        assert torch.equal(getattr(mesh, name), getattr(clip.body, name))
        assert not torch.equal(getattr(whole, name), getattr(clip.body, name))
    assert bool((mesh.confidence == 1).all()) and not bool((whole.confidence == 1).all())


def test_noise_falls_to_1_over_e_in_the_frames_that_are_set():
    frames = torch.arange(20_000)
    draws = ErrorDraws(key=(0, "a"), frames=frames, correlation=10.0, steady=0.0)
    noise = draws.noise("x", 4)
    assert root_mean_square(noise) == pytest.approx(1, rel=0.05)
    assert float((noise[10:] * noise[:-10]).mean()) == pytest.approx(1 / math.e, abs=0.05)
    steady = replace(draws, steady=1.0).noise("x", 4)
    assert torch.equal(steady[0], steady[-1])


def test_errors_differ_between_clips_and_seeds_and_add_up(anny):
    clip = clips_of(anny, 2, 3)
    first = fitted(clip, anny, joint_noise_mm=20.0)
    renamed = fitted(replace(clip, clip_id=("a", "b")), anny, joint_noise_mm=20.0)
    reseeded = fitted(clip, anny, joint_noise_mm=20.0, seed=1)
    assert len({float(x.body.joints.sum()) for x in (first, renamed, reseeded)}) == 3
    both = fitted(clip, anny, joint_noise_mm=20.0, depth_mm=500.0)
    shift = both.body.joints - first.body.joints
    assert float((shift - shift[:, :, :1]).abs().max()) < 1e-5 and float(shift.norm(dim=-1).min()) > 0.49


# --- what a body has, and who made it ---


def test_a_body_of_joints_alone_has_noise_of_joints_and_of_place(thousand, anny):
    bare = replace(thousand, body=replace(thousand.body, parameters={}, constants={}))
    seen = Errors(Errors.Config(joint_noise_mm=20.0)).observe(bare)
    assert root_mean_square(displaced(seen)) == pytest.approx(20, rel=0.05)
    at = seen.body.joint_names.index
    moved = seen.body.joints - seen.true_body.joints
    assert torch.allclose(moved[:, :, at("left_middle1")], moved[:, :, at("left_wrist")], atol=1e-6)
    for settings, named in (
        ({"rotation_noise_degrees": 3.0}, "rotation_noise_degrees"),
        ({"dropped_limbs": 0.1}, "dropped_limbs"),
        ({"hands": "rest"}, "hands"),
        ({"shape": "mean"}, "shape"),
    ):
        with pytest.raises(DataError) as refused:
            fitted(bare, anny, **settings)
        said = str(refused.value)
        assert f"clip 'clip0': its body has joints alone, and fit.{named} needs rotations" in said and "\n" not in said


def test_a_body_of_another_model_is_refused_in_a_line(anny, tmp_path):
    write_body_model(tmp_path / "SMPLX_NEUTRAL.npz", "smplx", 400)
    smplx = SmplX(SmplX.Config(path=tmp_path))
    clip = clips_of(anny)
    with pytest.raises(DataError, match="what its body says of its shape is not that of body=smplx"):
        fitted(clip, smplx, joint_noise_mm=10.0)
    with pytest.raises(DataError, match=r"body=anny puts joints up to .* mm from where the clip has them"):
        fitted(clip, Anny(Anny.Config(scale=1.1)), joint_noise_mm=10.0)


@pytest.mark.long
def test_bodies_of_the_family_are_fitted_too(tmp_path):
    write_body_model(tmp_path / "SMPLX_NEUTRAL.npz", "smplx", 400)
    smplx = SmplX(SmplX.Config(path=tmp_path))
    clip = clips_of(smplx, 2, 40)
    shape = {"beta_1": 1.0, "scale": 0.8}
    scaled = smplx.animate(Motion(rotations={"left_elbow": torch.ones(3, 3)}), shape, mesh=False)
    assert smplx.shape_of(scaled) == {f"beta_{k}": float(k == 1) for k in range(smplx.file.num_betas)} | {
        "scale": pytest.approx(0.8)
    }
    half = fitted(replace(clips_of(smplx, 1, 3), body=scaled), smplx, shape="mean", shape_share=0.5).body
    assert float(half.constants["scale"]) == pytest.approx(0.9)
    seen = fitted(clip, smplx, rotation_noise_degrees=4.0, shape="other")
    assert root_mean_square(turned(seen)[..., 1:]) == pytest.approx(4, rel=0.1)
    assert seen.body.joint_names == clip.body.joint_names
    assert not torch.equal(seen.body.constants["betas"], clip.body.constants["betas"])
    moved = fitted(clip.clips(slice(1)), smplx, joint_noise_mm=20.0)
    assert root_mean_square(displaced(moved)) == pytest.approx(20, rel=0.15)


def test_frames_that_pad_a_clip_are_not_looked_at(anny):
    clip = clips_of(anny, 1, 4)
    whole = fitted(clip, anny, joint_noise_mm=20.0)
    joints, turns = clip.body.joints.clone(), clip.body.parameters["rotations"].clone()
    joints[:, 2:], turns[:, 2:] = 0, 0
    padded = replace(clip, body=replace(clip.body, joints=joints, parameters={"rotations": turns}))
    with pytest.raises(DataError, match="puts joints up to"):
        fitted(padded, anny, joint_noise_mm=20.0)
    valid = torch.tensor([True, True, False, False]).expand(1, 2, 4)
    seen = fitted(replace(padded, valid=valid), anny, joint_noise_mm=20.0)
    assert torch.equal(seen.body.joints[:, :2], whole.body.joints[:, :2])


# --- who sees which body ---


def test_metrics_tasks_and_files_go_by_the_true_body(anny):
    clip = clips_of(anny)
    photo = replace(clip.reference, body=clip.select(frames=[0]).body)
    clip = replace(clip, reference=photo)
    seen = fitted(clip, anny, joint_noise_mm=50.0)
    assert seen.target_body is clip.body and seen.reference.target_body is photo.body
    assert not torch.equal(seen.reference.body.joints, photo.body.joints)
    scored = [*scored_clips(seen, torch.zeros(1, 2, 4, 3, 8, 8, dtype=torch.uint8)), true_clip(seen)]
    for one in scored:
        assert torch.equal(one.body.joints, clip.body.joints)
        assert torch.equal(one.reference.body.joints, photo.body.joints)
    assert torch.equal(clip_task(seen), clip_task(clip))
    still = replace(clip, body=photo.body, cameras=clip.cameras[:, :, :1])
    assert clip_task(fitted(replace(still, frame_index=torch.zeros(1, 1).long()), anny, depth_mm=100.0)).item() == 0
    read = decode_clip(encode_clip(seen))
    assert torch.equal(read.body.joints, clip.body.joints) and read.true_body is None
    assert torch.equal(read.reference.body.joints, photo.body.joints)
    part = seen.select([1], [2, 3])
    assert torch.equal(part.true_body.joints, clip.body.joints[:, 2:4])
    assert torch.equal(part.body.confidence, seen.body.confidence[:, 2:4])
    kept = fitted(clip, anny, joint_noise_mm=50.0, photo="true").reference
    assert kept.true_body is None and torch.equal(kept.body.joints, photo.body.joints)


def test_confidence_is_kept_in_files_and_lowered(anny):
    clip = clips_of(anny)
    sure = torch.rand(clip.body.joints.shape[:-1], generator=torch.Generator().manual_seed(0))
    clip = replace(clip, body=replace(clip.body, confidence=sure))
    assert torch.equal(decode_clip(encode_clip(clip)).body.confidence, sure)
    seen = fitted(clip, anny, hands="rest", dropped_confidence=0.5).body.confidence
    hand = clip.body.joint_names.index("left_middle1")
    assert torch.allclose(seen[..., hand], sure[..., hand] / 2) and torch.equal(seen[..., 0], sure[..., 0])


def test_confidence_falls_with_a_joint_s_error_and_not_with_the_pelvis_place(anny):
    clip, size = clips_of(anny, 1, 5), 60.0
    seen = fitted(clip, anny, joint_noise_mm=40.0, depth_mm=500.0, confidence_mm=size)
    pelvis = clip.body.joint_names.index("pelvis")
    kept = fitted(clip, anny, joint_noise_mm=40.0, confidence_mm=size).body
    apart = (kept.joints - kept.joints[:, :, [pelvis]]) - (clip.body.joints - clip.body.joints[:, :, [pelvis]])
    expected = torch.exp(-((1000 * apart.norm(dim=-1) / size) ** 2))
    assert torch.allclose(seen.body.confidence, expected, atol=1e-5) and float(expected.min()) < 0.9
    assert bool((seen.body.confidence[..., pelvis] == 1).all())
    assert torch.equal(fitted(clip, anny, depth_mm=500.0).body.confidence, torch.ones_like(expected))


# --- runs: settings, keys, shards ---


def test_without_a_fit_clips_and_keys_are_as_they_were(tiny):
    config = compose(tiny)
    clips = true_clips(config, "train")
    assert config.fit.name == "none" and observed(config, clips) is clips
    assert signal_keys(config) == {slot: signal_key(choice) for slot, choice in config.conditioners.items()}
    nothing = compose([*tiny, "fit=mild", *(f"fit.{name}=0" for name in NUMBERS), "fit.shape=true"])
    assert signal_keys(nothing) == signal_keys(config) and cache_folder(nothing) == cache_folder(config)


NUMBERS = ("rotation_noise_degrees", "root_rotation_noise_degrees", "depth_mm", "depth_drift_mm")


def test_configurations_of_before_have_none(tiny):
    text = compose(tiny).to_yaml()
    assert "\nfit:\n  name: none\n" in text
    assert parse_resolved(text.replace("\nfit:\n  name: none\n", "\n"), "old").fit.name == "none"


def test_the_fit_is_in_the_names_of_maps_and_latents_and_not_of_clips(tiny):
    words = [*tiny, "alignment=pelvis", "pose=skeleton"]
    plain, fit, other = (compose([*words, *more]) for more in ([], ["fit=mild"], ["fit=mild", "fit.seed=1"]))
    assert len({cache_folder(config) for config in (plain, fit, other)}) == 1
    assert len({signal_keys(config)["pose"] for config in (plain, fit, other)}) == 3
    systems = [build_system(config) for config in (plain, fit, other)]
    names = [
        {e.name for e in encodings(config, system.codec, system.conditioners.values())}
        for config, system in zip((plain, fit, other), systems, strict=True)
    ]
    assert not names[0] & names[1] and not names[1] & names[2]


def test_what_a_fit_needs_is_named():
    config = compose(["fit=mild", "pose=none", "alignment=none"])
    dataset = PartChoice("dataset", "bodiless", Bodiless, Bodiless.Config())
    problems = checks.check(config.model_copy(update={"dataset": dataset}))
    assert {problem.path for problem in problems} == {"fit"}
    assert any("errors requires the field 'body', which the dataset 'bodiless'" in p.message for p in problems)
    with pytest.raises(ConfigError, match="joint_noise_mm"):
        compose(["fit=typical", "fit.joint_noise_mm=-1"])


@pytest.fixture(scope="module")
def prepared(tiny, tmp_path_factory):
    """A cache in which runs without and with a fit have their maps, and the latter their latents."""
    words = [*tiny, f"data.cache={tmp_path_factory.mktemp('cache')}", "pose=skeleton", "alignment=pelvis"]
    words += ["data.recolour=0", "dataset.frames=4"]
    plain = compose(words)
    errors = ["fit=severe", "fit.dropped_limbs=0.5", "fit.depth_mm=300"]
    fit, cached = compose([*words, *errors]), compose([*words, *errors, "data.latents=cached"])
    with in_this_process():
        prepare([plain], ("train", "test"), jobs=1)
        before = missing_from_cache(fit)
        prepare([plain, cached], ("train", "test"), jobs=1)
    return plain, fit, cached, before


def test_maps_of_other_bodies_are_not_used_and_those_of_the_same_fit_are(prepared):
    plain, fit, _, before = prepared
    assert before and "the control maps of pose=skeleton are not prepared" in before
    assert missing_from_cache(fit) is None and missing_from_cache(plain) is None
    (shard,) = map(ShardReader, shard_paths(fit, "test"))
    assert shard.signals == {*drawn_keys(plain), *drawn_keys(fit)}
    stored = shard.load(0)
    assert stored.true_body is None and torch.equal(stored.body.joints, true_clips(plain, "test").load(0).body.joints)
    for config in (plain, fit):
        signals = signals_of_all([config])
        live, read = (
            signals.load(clips, 0) for clips in (build_dataset(config, "test"), open_clips(config, "test", signals))
        )
        assert torch.equal(live.body.joints, read.body.joints) and torch.equal(
            live.target_body.joints, stored.body.joints
        )
        assert all(torch.equal(live.signals[key], read.signals[key]) for key in signals)
        key = signal_keys(config)["pose"]
        assert torch.equal(read.signals[key], stored.signals[key])
    maps = [stored.signals[signal_keys(config)["pose"]] for config in (plain, fit)]
    assert not torch.equal(*maps)


@pytest.mark.parametrize("indexed", [True, False])
def test_a_part_of_a_clip_has_the_errors_of_the_whole(prepared, indexed):
    _, fit, _, _ = prepared
    signals = signals_of_all([fit])
    clips = open_clips(fit, "test", signals)
    if not indexed:
        load = clips._source.load_part
        clips._source.load_part = lambda *given: replace(load(*given), frame_index=None)
    whole = clips.load(0)
    part = unpacked(clips.load_part(0, lambda views, frames: ([1], range(2, 4)), frozenset(signals.ahead)))
    assert (part.frame_index is None) != indexed
    expected = whole.select([1], [2, 3])
    for a, b in (
        (part.body, expected.body),
        (part.true_body, expected.true_body),
        (part.reference, expected.reference),
    ):
        assert len(tensors_of(a)) == len(tensors_of(b)) and all(map(torch.equal, tensors_of(a), tensors_of(b)))


def test_training_from_latents_sees_the_observed_body(prepared):
    _, fit, cached, _ = prepared
    system = build_system(cached)
    clips = open_training_clips(cached, system.codec, system.conditioners)
    read, live = clips.load(0), NO_SIGNALS.load(build_dataset(fit, "train"), 0)
    assert torch.equal(read.body.joints, live.body.joints) and torch.equal(read.true_body.joints, live.true_body.joints)
    # Pictures are moved by where the fit has the pelvis.
    seen = as_seen(live, system.alignment, cached.data.background)
    assert torch.allclose(read.latents, system.codec.encode(seen.frames), atol=1e-6)
    exact = as_seen(replace(live, body=live.true_body), system.alignment, cached.data.background)
    assert not torch.equal(exact.frames, seen.frames)


def test_the_fit_s_body_model_is_the_run_s(tiny):
    config = compose([*tiny, "fit=mild", "body.scale=1.1"])
    clip = build_dataset(config, "test").load(0)
    again = build_fit(config).observe(true_clips(config, "test").load(0))
    assert torch.equal(clip.body.vertices, again.body.vertices) and clip.true_body is not None


def test_a_contact_sheet_draws_true_joints_red_and_a_fits_blue(tiny):
    clip = build_dataset(compose([*tiny, "fit=severe", "dataset.image_size=64"]), "test").load(0)
    image = draw_joints(clip)[0, 0]
    fit, true = (project(body.joints[0, 0], clip.cameras[0, 0, 0])[0] for body in (clip.body, clip.true_body))
    # The fit's dots lie over the true ones.
    true = true[torch.cdist(true, fit).amin(dim=1) > 2.5]
    for pixels, colour in ((fit, OBSERVED_COLOUR), (true, TRUE_COLOUR)):
        seen = pixels[((pixels > 0) & (pixels < 64)).all(dim=-1)]
        assert len(seen) > 3
        columns, rows = seen.long().unbind(-1)
        assert torch.equal(image[:, rows, columns], torch.tensor(colour)[:, None].expand(3, len(seen)))


SHAKY = """
from dataclasses import replace

import torch
from hvg.plugin import Fit, PartConfig, generator


class Part(Fit):
    Config = PartConfig
    made_for = 4

    def observe(self, clip):
        return replace(clip, body=self.shaken(clip.target_body, clip.clip_id), true_body=clip.target_body)

    def shaken(self, body, names):
        shift = torch.stack([torch.randn(3, generator=generator("shaky", name)) for name in names])[:, None, None] / 50
        sure = torch.full(body.joints.shape[:-1], 0.5)
        mesh = None if body.vertices is None else body.vertices + shift
        return replace(body, joints=body.joints + shift, vertices=mesh, confidence=sure)
"""


def test_somebody_s_own_fit_is_chosen_by_its_name(tiny, package, anny):
    package({"fit.shaky": SHAKY})
    config = compose([*tiny, "fit=shaky", "pose=skeleton"])
    check_fit(config.fit.cls, config.fit.config, anny)
    clip, true = (clips.load(0) for clips in (build_dataset(config, "test"), true_clips(config, "test")))
    assert torch.equal(clip.true_body.joints, true.body.joints) and not torch.equal(clip.body.joints, true.body.joints)
    assert signal_keys(config)["pose"] != signal_keys(compose([*tiny, "pose=skeleton"]))["pose"]


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (", true_body=clip.target_body", "", "the true body is not kept"),
        (", true_body=clip", ", frames=None, true_body=clip", "changed more of the clip than its bodies"),
        ("confidence=sure", "confidence=None", "confidence has to be"),
        ('generator("shaky", name)', 'generator("shaky", len(names))', "depend on the clips beside it"),
        ("clip.target_body, clip.clip_id", "clip.body, clip.clip_id", "a second time"),
        ("shift = ", "shift = len(body.joints[0]) * ", "frames of a part differ"),
    ],
)
def test_a_fit_that_breaks_a_promise_is_told_which(package, anny, right, wrong, told):
    assert right in SHAKY
    package({"fit.shaky": SHAKY.replace(right, wrong)})
    choice = compose(["fit=shaky"]).fit
    with pytest.raises(AssertionError, match=told):
        check_fit(choice.cls, choice.config, anny)
