"""What a reconstruction of the person looks like from there is a control map: frozen, keyed, recoloured, told like any other."""

import re
from dataclasses import replace

import pytest
import torch
from tiny_reconstructors import GAIN, PARTS, write_avatar
from torch.nn.functional import avg_pool2d

from components.conditioners.appearance_render import AppearanceRender
from hvg.config.build import build_conditioners, build_dataset
from hvg.config.changes import same_results
from hvg.config.composition import compose, parse_resolved
from hvg.core.eight_bit import signal_as_stored
from hvg.core.errors import CheckpointError, ConfigError
from hvg.data.cache import RenderedClips, missing_from_cache, open_clips
from hvg.data.prepare import prepare, render_shard
from hvg.data.signals import Signals, signal_keys, signals_of
from hvg.data.trained_reconstructor import FrozenReconstructor
from hvg.data.training_data import TrainingOrder, recolour
from hvg.geometry.depth_normals import normals_of_depth
from hvg.model.load import build_system
from hvg.parts import registry
from hvg.parts.scene import BodyModel, Dataset
from hvg.testing import build, tiny_batch, tiny_context
from hvg.values.buckets import Bucket, alike
from hvg.values.clip import ClipBatch

WORDS = ("reconstruction=projection", "reconstruction.reconstructor=copied")
TRAINED = ("reconstruction=projection", "reconstruction.reconstructor=dimmed")


@pytest.fixture(autouse=True)
def parts(package):
    package(PARTS)


class Nobody(BodyModel):
    """A body model of which nobody asks a body."""

    def animate(self, motion, shape=None, *, mesh=True):
        raise NotImplementedError


class Clips(Dataset):
    """Three clips of four views and three frames."""

    @classmethod
    def provides(cls, config):
        return frozenset({"frames", "alpha", "body", "reference"})

    def __len__(self):
        return 3

    def load(self, index):
        clip = tiny_batch(1, 4, 3, seed=index)
        return replace(clip, clip_id=(f"clip-{index}",))


def drawing(**settings) -> AppearanceRender:
    config = AppearanceRender.Config(**{"reconstructor": "copied", **settings})
    return build(AppearanceRender, config, replace(tiny_context(), body=Nobody()))


def seen_in(batch: ClipBatch):
    part = drawing().reconstructor
    assert part is not None
    return part.on(torch.device("cpu")).render(batch)


# --- the map ----------------------------------------------------------------------------------------------------------


def test_every_map_is_what_the_reconstructor_sees_times_alpha():
    batch = tiny_batch(2, 3, 2)
    seen = seen_in(batch)
    part = drawing(maps=("depth", "rgb", "normal", "alpha"))
    depth, rgb, normal, alpha = part.signal(batch).split([1, 3, 3, 1], dim=3)
    cover = seen.alpha[:, :, :, None]
    assert torch.equal(alpha, cover) and torch.equal(rgb, seen.colour.movedim(-1, 3))
    assert torch.equal(normal, normals_of_depth(seen.depth, batch.cameras).movedim(-1, 3) * cover)
    # A disc before the camera faces it, and lies at the pelvis' depth: in the middle of the range, and behind it outwards.
    inside = (cover == 1)[:, :, :, 0]
    assert inside.any() and normal[:, :, :, 2][inside].max() < -0.9
    assert depth[:, :, :, 0][inside].max() < 0.56 and depth[:, :, :, 0][inside].min() > 0.4
    assert not any(x.movedim(3, 0)[:, ~(cover > 0)[:, :, :, 0]].any() for x in (depth, rgb, normal))


def test_finer_rays_are_averaged():
    batch = tiny_batch(1, 2, 1)
    seen = seen_in(replace(batch, cameras=batch.cameras.resized((128, 128))))
    signal = drawing(supersampling=4).signal(batch)
    fine = torch.cat([seen.colour, seen.alpha[..., None]], dim=-1).movedim(-1, -3)
    torch.testing.assert_close(signal, avg_pool2d(fine.flatten(0, 2), 4).unflatten(0, batch.grid))


def test_people_see_it_on_white():
    part, batch = drawing(), tiny_batch(1, 1, 1)
    signal = part.signal(batch)
    images = part.signal_images(signal)
    assert list(images) == ["rgb", "alpha"] and all(x.shape[-3:] == (3, 32, 32) for x in images.values())
    assert images["rgb"][..., 0, 0].eq(1).all() and images["alpha"][..., 0, 0].eq(-1).all()
    whole = signal[:, :, :, 3:] == 1
    assert torch.equal(images["rgb"].where(whole, 0), signal[:, :, :, :3].where(whole, 0))


def test_colours_go_with_alpha():
    with pytest.raises(ValueError, match="rgb goes with alpha"):
        AppearanceRender.Config(maps=("rgb",))
    assert AppearanceRender.Config(maps=("depth", "alpha")).maps == ("depth", "alpha")
    assert AppearanceRender.photo_colours(AppearanceRender.Config(maps=("alpha", "normal", "rgb"))) == (4, 5, 6, 0)
    assert AppearanceRender.photo_colours(AppearanceRender.Config(maps=("alpha",))) is None


# --- frozen -----------------------------------------------------------------------------------------------------------


def test_the_reconstructor_is_frozen_and_no_part_of_the_model(tiny, tmp_path):
    run = write_avatar(tmp_path / "avatar")
    system = build_system(compose([*tiny, *TRAINED, f"reconstruction.checkpoint={run}"]))
    assert not [name for name in system.state_dict() if "gain" in name or "reconstructor" in name]
    part = system.conditioners["reconstruction"]
    weights = list(part.reconstructor.on(torch.device("cpu")).parameters())
    assert len(weights) == 2 and not any(x.requires_grad for x in weights)
    batch = replace(tiny_batch(2, 2, 2), sample_index=torch.arange(2))
    system.training_step(batch, 0)["loss"].backward()
    assert part.guider.projection.weight.grad is not None and all(x.grad is None for x in weights)


def test_the_copy_on_the_cpu_stays_there():
    part = FrozenReconstructor(torch.nn.Linear(2, 2))
    cpu, other = torch.device("cpu"), torch.device("meta")
    assert part.on(other).weight.device == other and part.on(other) is part.on(other)
    assert part.on(cpu).weight.device == cpu and not part.on(cpu).weight.requires_grad and not part.on(cpu).training


def test_settings_and_weights_are_those_of_the_checkpoint(tmp_path):
    run = write_avatar(tmp_path / "avatar", radius=0.5)
    cls = registry.load("body", "anny")
    body = cls.__new__(cls)
    config = AppearanceRender.Config(reconstructor="dimmed", checkpoint=run)
    part = build(AppearanceRender, config, replace(tiny_context(), body=body))
    batch = tiny_batch(1, 1, 1)
    signal, copied = part.signal(batch), drawing(reconstructor_settings={"radius": 0.5}).signal(batch)
    assert torch.equal(signal[:, :, :, 3], copied[:, :, :, 3])
    torch.testing.assert_close(signal[:, :, :, :3], copied[:, :, :, :3] * GAIN["gain.bias"][:, None, None])
    # Averaged weights, where a run has them.
    write_avatar(run, step=6, radius=0.5, average={"gain.bias": torch.ones(3)})
    part = build(AppearanceRender, config, replace(tiny_context(), body=body))
    torch.testing.assert_close(part.signal(batch)[:, :, :, :3], copied[:, :, :, :3])


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "path", "told"),
    [
        (["reconstructor=dimmed"], "reconstruction", "dimmed has to be trained before; give its run as checkpoint=RUN"),
        (["reconstructor=copied", "checkpoint=x"], "reconstruction", "copied has nothing to train"),
        (
            ["reconstructor=dimmed", "checkpoint=x", "reconstructor_settings.radius=1"],
            "reconstruction",
            "dimmed has the settings of its checkpoint; leave out radius",
        ),
        (["reconstructor=copyed"], "reconstruction.reconstructor", "no reconstructor is named 'copyed'"),
        (
            ["reconstructor=copied", "reconstructor_settings.radius=0"],
            "reconstruction.reconstructor_settings.radius",
            "greater than 0",
        ),
    ],
)
def test_what_does_not_fit_is_told_once_before_anything_is_built(tiny, words, path, told):
    with pytest.raises(ConfigError) as error:
        compose([*tiny, "reconstruction=projection", *(f"reconstruction.{word}" for word in words)])
    (problem,) = error.value.problems
    assert problem.path == path and told in problem.message and "\n" not in problem.message


def test_a_checkpoint_of_something_else_is_refused_in_a_line(tiny, tmp_path):
    runs = {
        "nowhere": "no such checkpoint",
        "another": "trained the reconstructor 'copied', not 'dimmed'",
        "video": "trained no reconstructor; give a run that did; next: `hvg train system=avatar`",
        "smpl": "its reconstructor was trained with body=smpl, this run has body=anny",
        "less": "does not fit the model: missing gain.weight",
    }
    write_avatar(tmp_path / "another", name="copied")
    write_avatar(tmp_path / "video", name=None)
    write_avatar(tmp_path / "smpl", body="smpl")
    write_avatar(tmp_path / "less", {"gain.bias": torch.ones(3)})
    for name, told in runs.items():
        config = compose([*tiny, *TRAINED, f"reconstruction.checkpoint={tmp_path / name}"])
        with pytest.raises(CheckpointError, match=told) as error:
            build_system(config)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


# --- keys, and maps that were made ahead ------------------------------------------------------------------------------


def test_the_key_is_the_checkpoint_s_content_wherever_it_lies(tiny, tmp_path):
    def key(run, *more: str) -> str:
        return signal_keys(compose([*tiny, *TRAINED, f"reconstruction.checkpoint={run}", *more]))["reconstruction"]

    one, same = (write_avatar(tmp_path / name) for name in ("one", "same"))
    first = key(one)
    assert first == key(same) == key(one / "checkpoints" / "step-0000005.ckpt")
    assert first == key(one, "reconstruction.encoder=codec_cnn", "reconstruction.inject=both", "pose=skeleton")
    assert first != key(one, "reconstruction.maps=[rgb,alpha,depth]") and first != key(one, "fit=mild")
    other = write_avatar(tmp_path / "other", {**GAIN, "gain.bias": torch.ones(3)})
    assert key(other) != first
    # The run goes on: its newest checkpoint counts.
    write_avatar(one, {**GAIN, "gain.bias": torch.ones(3)}, step=6)
    assert key(one) != first


@pytest.mark.long
def test_maps_of_an_older_checkpoint_are_not_read(tiny, tmp_path):
    run = write_avatar(tmp_path / "avatar")
    config = compose([*tiny, *TRAINED, f"reconstruction.checkpoint={run}", f"data.cache={tmp_path / 'cache'}"])
    prepare([config], ("train", "test"), jobs=1)
    assert missing_from_cache(config) is None
    signals = signals_of(config, build_conditioners(config)[1])
    live, stored = (
        signals.load(clips, 0) for clips in (build_dataset(config, "test"), open_clips(config, "test", signals))
    )
    key = signal_keys(config)["reconstruction"]
    assert torch.equal(live.signals[key], stored.signals[key]) and live.signals[key][:, :, :, :3].any()
    write_avatar(run, {**GAIN, "gain.bias": torch.ones(3)}, step=6)
    assert "the control maps of reconstruction=appearance_render are not prepared" in (missing_from_cache(config) or "")


def test_live_and_stored_maps_are_the_same_bits(tmp_path):
    signals = Signals({"render": drawing(maps=("rgb", "alpha", "depth", "normal"))})
    shard = render_shard(tmp_path, "train", Clips(), signals)
    live, stored = signals.load(Clips(), 1), RenderedClips([shard], Clips(), frozenset(signals)).load(1)
    assert torch.equal(live.signals["render"], stored.signals["render"])


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maps", [("rgb", "alpha"), ("alpha", "depth", "rgb")])
@pytest.mark.parametrize("seed", range(3))
def test_a_recoloured_map_is_the_map_of_the_recoloured_photo(maps, seed):
    part, clip = drawing(maps=maps), tiny_batch(1, 2, 2)
    # Near black a gamma below 1 makes much of a rounded colour.
    clip = replace(clip, reference=replace(clip.reference, frames=0.4 * clip.reference.frames + 0.3))
    channels = part.photo_colours(part.config)
    drawn = replace(clip, signals={"render": signal_as_stored(part.signal(clip), "uint8")})
    changed = recolour(drawn, torch.Generator().manual_seed(seed), {"render": channels})
    photo = recolour(clip, torch.Generator().manual_seed(seed)).reference
    expected = part.signal(replace(clip, reference=photo))
    assert torch.equal(changed.reference.frames, photo.frames)
    assert (changed.signals["render"] - expected).abs().max() < 2.5 / 127
    assert (drawn.signals["render"] - expected).abs().max() > 0.1
    # The clip that was given, which may be kept for other steps, stays as it was.
    assert torch.equal(drawn.signals["render"], signal_as_stored(part.signal(clip), "uint8"))


def test_nobody_stays_nobody_in_any_colour():
    part, clip = drawing(), tiny_batch(1, 1, 1)
    signal = part.signal(clip)
    changed = recolour(replace(clip, signals={"r": signal}), torch.Generator().manual_seed(1), {"r": (0, 1, 2, 3)})
    nobody = signal[:, :, :, 3] == 0
    assert nobody.any() and not changed.signals["r"].movedim(3, 0)[:, nobody].any()
    assert torch.equal(changed.signals["r"][:, :, :, 3], signal[:, :, :, 3])


def test_a_training_step_sees_map_and_photo_in_the_same_colours():
    """Whether the map was drawn when the clip was loaded or lay in a file, and however often the clip is used."""
    signals = Signals({"render": drawing()})
    order = TrainingOrder(Clips(), signals, seed=0, groups=alike(3, Bucket(2, 1)), clips_per_step=1, recolour=1.0)
    for position in (0, 1, 2, 3, 4, 0):
        seen = order[position]
        expected = signals.parts["render"].signal(seen)
        assert torch.equal(seen.signals["render"][:, :, :, 3], signal_as_stored(expected, "uint8")[:, :, :, 3])
        # A gamma of a rounded colour: mostly a step or two, more where it is nearly black.
        apart = (seen.signals["render"] - expected).abs()
        assert apart.mean() < 0.01 and apart.max() < 0.13


# --- where the prediction starts --------------------------------------------------------------------------------------


def estimate(system, batch, kept=None):
    """What a network that says 0 makes of noise: x0 (B, V, t, C, h, w)."""
    torch.nn.init.zeros_(system.backbone.conv_out.weight)
    torch.nn.init.zeros_(system.backbone.conv_out.bias)
    conditioning = system.condition(batch, kept)
    latents = system.latents(batch)
    sigma = torch.ones(*latents.shape[:3], 1, 1, 1)
    return system.denoise(torch.randn(latents.shape), sigma, conditioning, batch.frame_index, batch.view_grid())


def test_a_network_that_adds_nothing_shows_the_render(tiny):
    words = [*tiny, *WORDS, "reconstruction.dropout=0.5", "seed=3"]
    plain, residual = (build_system(compose([*words, f"reconstruction.residual={x}"])) for x in ("none", "render"))
    assert all(torch.equal(x, residual.state_dict()[name]) for name, x in plain.state_dict().items())
    batch = tiny_batch(1, 2, 2)
    signal = signal_as_stored(drawing().signal(batch), "uint8")
    render = signal[:, :, :, :3] + (1 - signal[:, :, :, 3:])
    assert not estimate(plain, batch).any()
    torch.testing.assert_close(residual.codec.decode(estimate(residual, batch)), render)
    # A dropped render is nothing to start from.
    assert not estimate(residual, batch, {"reconstruction": torch.tensor([False])}).any()
    frames = residual.generate(batch, num_steps=2, strengths={"reconstruction": 1.0})
    torch.testing.assert_close(frames, render.clamp(-1, 1), rtol=0, atol=1e-4)


def test_a_prediction_has_one_start_and_needs_colours_for_it(tiny):
    with pytest.raises(ConfigError, match="residual=render starts from colours"):
        compose([*tiny, *WORDS, "reconstruction.residual=render", "reconstruction.maps=[alpha]"])
    second = "+slots.more={name: appearance_render, reconstructor: copied, residual: render}"
    with pytest.raises(ConfigError, match="says where the prediction starts, as reconstruction does"):
        compose([*tiny, *WORDS, "reconstruction.residual=render", second])


# --- configurations ---------------------------------------------------------------------------------------------------


def test_a_configuration_of_before_has_no_reconstruction(tiny):
    config = compose(list(tiny))
    text = config.to_yaml()
    assert "\nreconstruction:\n  name: none\n" in text
    before = re.sub(r"\nreconstruction:\n(  .*\n)+", "\n", text)
    assert "reconstruction" not in before and parse_resolved(before, "config.yaml") == config
    assert same_results(before, "config.yaml", config)
