"""A run that starts from published SVD weights is diffusers' pipeline until it is trained; what cannot be loaded is said.

The pipeline has the library's classes and random weights, for there is no network here.
"""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from svd_pipeline import overrides
from torch import Tensor

from components.conditioners.clip_image import resize_with_antialiasing
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.core.random_keys import generator
from hvg.model.load import build_system
from hvg.model.system import HumanVideoSystem
from hvg.testing import tiny_batch
from hvg.train.run import start_system
from hvg.values.clip import ClipBatch
from hvg.values.conditioning import Conditioning

SIZE, FRAMES, STEPS = 64, 4, 25
UNET = "unet/diffusion_pytorch_model.safetensors"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipeline(svd_folder):
    from diffusers import StableVideoDiffusionPipeline, UNetSpatioTemporalConditionModel

    pipeline = StableVideoDiffusionPipeline.from_pretrained(svd_folder, low_cpu_mem_usage=False)
    # Tensors read from safetensors lie wherever they lie in the file, and on CPUs a matrix product may round
    # differently for other alignments: the library's network gets its weights into memory of its own, as ours does.
    unet = UNetSpatioTemporalConditionModel.from_config(pipeline.unet.config)
    unet.load_state_dict(pipeline.unet.state_dict())
    pipeline.register_modules(unet=unet.eval())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def system_of(words: list[str]) -> tuple[HumanVideoSystem, list[str]]:
    """The system at its start, and what it says about the weights that it read."""
    lines: list[str] = []
    return start_system(compose(words), lines.append).eval(), lines


@pytest.fixture(scope="module")
def system(svd_folder):
    return system_of(overrides(svd_folder))[0]


@pytest.fixture(scope="module")
def photo():
    pixels = torch.randint(256, (SIZE, SIZE, 3), generator=generator("photo"), dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture
def damaged(svd_folder, tmp_path):
    """A copy of the pipeline's folder whose UNet's tensors, or settings, a function has changed."""

    def make(weights=None, settings=None):
        folder = shutil.copytree(svd_folder, tmp_path / "svd")
        if weights:
            save_file(weights(load_file(folder / UNET)), folder / UNET)
        if settings:
            path = folder / "unet/config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return folder

    return make


def clip(photo: Image.Image, views: int = 1) -> ClipBatch:
    """A person seen by some cameras, with the photo as reference."""
    import numpy

    batch = tiny_batch(1, views, FRAMES, SIZE)
    frames = 2 * torch.from_numpy(numpy.array(photo)).permute(2, 0, 1).div(255) - 1
    return replace(batch, reference=replace(batch.reference, frames=frames[None, None]))


@pytest.mark.parametrize("views", [1, 3])
@torch.no_grad()
def test_the_denoiser_at_its_start_is_the_library_unet(system, pipeline, photo, views):
    """Every new part is there. What the photo gives is compared below."""
    request = clip(photo, views)
    conditioning, grid = system.condition(request), request.view_grid()
    assert system.backbone.view_attention and conditioning.residuals and conditioning.embedding is not None
    torch.manual_seed(0)
    noisy = torch.randn(1, views, FRAMES, 4, 8, 8)
    whole = conditioning.expand(views, FRAMES)
    ids = torch.tensor([[6, 127, 0.0]]).expand(views, 3)
    for level in system.prediction.level(system.prediction.sigma_schedule(STEPS, pixels=SIZE**2))[:STEPS:8]:
        result = system.backbone(noisy, level.expand(1, views, FRAMES), conditioning, grid=grid)
        inputs = torch.cat([noisy, whole.channels], dim=3)[0]
        assert torch.equal(result[0], pipeline.unet(inputs, level, whole.tokens[0, :, 0], ids).sample)


@torch.no_grad()
def test_the_photo_reaches_the_denoiser_as_in_the_library(system, pipeline, photo):
    conditioning = system.condition(clip(photo))
    assert torch.equal(conditioning.tokens[0, 0], pipeline._encode_image(photo, CPU, 1, False))
    pixels = pipeline.video_processor.preprocess(photo, SIZE, SIZE)
    latents = pipeline._encode_vae_image(pixels, CPU, 1, False)
    torch.testing.assert_close(conditioning.channels[0, 0], latents, rtol=0, atol=1e-5)
    nothing = {slot: system.conditioners[slot].null(conditioning) for slot in ("image_embedding", "appearance")}
    assert not nothing["image_embedding"].tokens.any() and not nothing["appearance"].channels.any()


@torch.no_grad()
def test_sampling_is_the_library_pipeline(system, pipeline, photo):
    """25 steps, guidance from 1 to 3 over the frames. Ours starts at sigma_max, the library at sqrt(sigma_max^2 + 1)."""
    batch = clip(photo)
    latents, _ = system.sample_latents(batch, num_steps=STEPS, seed=3)
    noise = torch.stack([torch.randn(latents.shape[1:], generator=generator(3, "sample", n)) for n in batch.clip_id])
    pipeline.scheduler.set_timesteps(STEPS)
    expected = pipeline(
        photo,
        SIZE,
        SIZE,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        noise_aug_strength=0.0,
        latents=noise[:, 0] * (700 / pipeline.scheduler.init_noise_sigma),
        output_type="latent",
    ).frames
    # Latents have a deviation of 1; 7e-6 was measured.
    torch.testing.assert_close(latents[:, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(300, 500), (224, 224), (90, 700), (30, 40), (449, 448)])
def test_resizing_is_the_library_pipeline(size):
    from diffusers.pipelines.stable_video_diffusion.pipeline_stable_video_diffusion import _resize_with_antialiasing

    images = torch.rand(2, 3, *size, generator=generator("images")) * 2 - 1
    expected = _resize_with_antialiasing(images, (224, 224))
    torch.testing.assert_close(resize_with_antialiasing(images, (224, 224)), expected, rtol=0, atol=2e-6)


def test_every_published_weight_is_loaded(svd_folder):
    words = [word for word in overrides(svd_folder) if not word.startswith("reference_keys")]
    system, lines = system_of([*words, "reference_keys=reference_tokens", "backbone.memory=gated"])
    published, own = load_file(svd_folder / UNET), system.backbone.state_dict()
    assert all(torch.equal(own[name], x) for name, x in published.items())
    new = dict.fromkeys(("view_attention", "memory_gate"), 0)
    for name in own.keys() - published.keys():
        new[name.split(".")[0]] += own[name].numel()
    told = ", ".join(f"{name} ({number:,} weights)" for name, number in new.items())
    assert lines == [f"unet: {len(published)} tensors from {svd_folder}; new: {told}"]


def test_nothing_is_read_where_weights_come_from_a_checkpoint(svd_folder):
    system = build_system(compose(overrides(svd_folder)))
    published, own = load_file(svd_folder / UNET), system.backbone.state_dict()
    assert not torch.equal(own["conv_in.weight"], published["conv_in.weight"])


def test_half_precision_and_shards_and_the_unet_folder_give_the_same_weights(svd_folder, pipeline, tmp_path):
    """As float32, whatever they are stored as."""
    whole = system_of(overrides(svd_folder))[0].backbone.state_dict()
    pipeline.unet.save_pretrained(tmp_path / "shards", max_shard_size="500KB")
    assert (tmp_path / "shards/diffusion_pytorch_model.safetensors.index.json").exists()
    sharded = system_of(overrides(svd_folder, weights=tmp_path / "shards"))[0].backbone.state_dict()
    assert all(torch.equal(whole[name], x) for name, x in sharded.items())

    half = shutil.copytree(svd_folder / "unet", tmp_path / "half")
    tensors = load_file(half / "diffusion_pytorch_model.safetensors")
    (half / "diffusion_pytorch_model.safetensors").unlink()
    save_file({name: x.half() for name, x in tensors.items()}, half / "diffusion_pytorch_model.fp16.safetensors")
    rounded = system_of(overrides(svd_folder, weights=half))[0].backbone.state_dict()
    assert all(rounded[name].dtype == torch.float32 for name in tensors)
    assert all(torch.equal(rounded[name], x.half().float()) for name, x in tensors.items())


def test_pickled_weights_are_not_read(damaged):
    folder = damaged()
    (folder / UNET).rename(folder / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(HvgError, match=r"backbone\.weights: no unet at .*diffusion_pytorch_model\.safetensors"):
        system_of(overrides(folder))


def test_further_input_channels_start_at_zero(svd_folder):
    """A second photo's worth of channels changes nothing."""
    words = [*overrides(svd_folder), "+slots.more.name=reference_latent"]
    system, lines = system_of(words)
    published = load_file(svd_folder / UNET)["conv_in.weight"]
    weight = system.backbone.conv_in.weight
    assert weight.shape[1] == 12
    assert torch.equal(weight[:, :8], published) and not weight[:, 8:].any()
    assert lines[1] == "conv_in: 4 input channels beyond the published 8 start at zero"


@torch.no_grad()
def test_without_appearance_the_network_sees_zeros_in_its_place(svd_folder, system):
    words = [word for word in overrides(svd_folder) if not word.startswith("appearance")]
    alone, lines = system_of([*words, "appearance=none"])
    assert lines[1] == "conv_in: the first 4 of 8 published input channels are used, as if the others were zero"
    torch.manual_seed(0)
    noisy, level = torch.randn(1, 1, 2, 4, 8, 8), torch.zeros(1, 1, 2)
    grid = tiny_batch(1, 1, 2).view_grid()
    with_zeros = system.backbone(noisy, level, Conditioning(channels=torch.zeros_like(noisy)), grid=grid)
    nothing = alone.backbone(noisy, level, Conditioning(), grid=grid)
    torch.testing.assert_close(nothing, with_zeros, rtol=0, atol=1e-5)


def without(name: str):
    return lambda weights: {key: x for key, x in weights.items() if key != name}


def wrong_shape(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"conv_out.bias": torch.zeros(5)}


def one_more(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"mid_block.surprise": torch.zeros(5)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            without("mid_block.resnets.0.time_mixer.mix_factor"),
            r"missing mid_block\.resnets\.0\.time_mixer\.mix_factor$",
        ),
        (without("conv_in.weight"), r"missing conv_in\.weight$"),
        (one_more, r"unexpected mid_block\.surprise$"),
        (wrong_shape, r"conv_out\.bias has shape \(5,\), the model \(4,\)$"),
    ],
)
def test_weights_without_a_place_are_named(damaged, damage, message):
    with pytest.raises(HvgError, match=message):
        system_of(overrides(damaged(weights=damage)))


def test_many_faults_are_counted(damaged):
    with pytest.raises(HvgError, match=r"missing .*; and \d+ more$"):
        system_of(overrides(damaged(weights=lambda weights: dict(list(weights.items())[:9]))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_attention_heads": [2, 8]}, r"num_attention_heads is \[2, 4\] here and \[2, 8\] there$"),
        (
            {"block_out_channels": [32, 96], "cross_attention_dim": 768},
            r"block_out_channels is \[32, 64\] here and \[32, 96\] there; cross_attention_dim is 32 here and 768 there$",
        ),
    ],
)
def test_another_network_is_told_by_its_settings(damaged, settings, message):
    with pytest.raises(HvgError, match=message):
        system_of(overrides(damaged(settings=settings)))


def test_other_norm_groups_are_refused(svd_folder):
    with pytest.raises(HvgError, match="norm_groups=8"):
        system_of(overrides(svd_folder, norm_groups=8))


@pytest.mark.parametrize(("setting", "name"), [("backbone.weights", "unet"), ("codec.path", "vae")])
def test_a_hub_id_out_of_reach_is_one_line(svd_folder, monkeypatch, tmp_path, setting, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    words = [word for word in overrides(svd_folder) if not word.startswith(f"{setting}=")]
    with pytest.raises(HvgError, match=f"^{setting}: no {name} at 'nobody/nothing'. Give {setting} a folder") as error:
        system_of([*words, f"{setting}=nobody/nothing"])
    assert "\n" not in str(error.value)


def test_an_image_encoder_out_of_reach_is_one_line(svd_folder, monkeypatch, tmp_path, photo):
    """It is read when it is first needed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    words = [word for word in overrides(svd_folder) if not word.startswith("image_embedding.path")]
    system, _ = system_of([*words, "image_embedding.path=nobody/nothing"])
    with pytest.raises(HvgError, match=r"^image_embedding\.path: no image_encoder at 'nobody/nothing'") as error:
        system.condition(clip(photo))
    assert "\n" not in str(error.value)


def test_an_incomplete_image_encoder_is_refused(damaged, photo):
    folder = damaged()
    path = folder / "image_encoder/model.safetensors"
    save_file(without("visual_projection.weight")(load_file(path)), path, metadata={"format": "pt"})
    with pytest.raises(HvgError, match=r"image_encoder at .* is not whole: missing visual_projection\.weight$"):
        system_of(overrides(folder))[0].condition(clip(photo))


def test_frozen_encoders_are_neither_trained_nor_saved(system):
    assert not any("encoder" in name or "vae" in name for name in system.state_dict())
    names = {name for name, weight in system.named_parameters() if weight.requires_grad}
    assert names == {name for name, _ in system.named_parameters()}


@torch.no_grad()
def test_noise_on_the_photo_is_a_function_of_the_clip(svd_folder, system, photo):
    noisy, _ = system_of([*overrides(svd_folder), "appearance.noise_augmentation=0.5"])
    one, again, other = (
        noisy.conditioners["appearance"](None, batch).channels
        for batch in (clip(photo), clip(photo), replace(clip(photo), clip_id=("another",)))
    )
    clean = system.conditioners["appearance"](None, clip(photo)).channels
    assert torch.equal(one, again)
    assert not torch.allclose(one, other, atol=1e-3) and not torch.allclose(one, clean, atol=1e-3)
