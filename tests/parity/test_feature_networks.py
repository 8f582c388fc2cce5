"""Feature networks against the reference code of the metrics, both filled by one formula (tests/data/metrics/README.md)."""

import json

import numpy as np
import pytest
import torch
from golden_networks import DATA, FILES, KEYS, crc32, filled, write_network_files
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from components.nn.feature_networks.load import LPIPS, NETWORKS, LoadedNetwork, load_lpips, load_network
from hvg.parts.network_files import NetworkFiles

CPU = torch.device("cpu")
# Relative, in the 2-norm of the matrix; float32 with other kernels or batches differs by up to 5e-7.
FEATURES = 5e-6
# Mean colour of Kinetics that FID-VID takes off.
MEAN = np.array([114.7748, 107.7354, 99.4750])


def read(name: str):
    path = DATA / name
    return json.loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else dict(np.load(path))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return read("features.npz")


@pytest.fixture(scope="module")
def frames() -> dict[str, np.ndarray]:
    return read("inputs_frames.npz")


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """Loads a network from a file laid out as the public one is."""
    loaded: dict[str, LoadedNetwork] = {}

    def get(name: str) -> LoadedNetwork:
        if name not in loaded:
            load, entry = (load_lpips, LPIPS[name].trunk) if name in LPIPS else (load_network, NETWORKS[name][1])
            folder = write_network_files(tmp_path_factory.mktemp("networks"), [entry])
            loaded[name] = load(name, NetworkFiles(folder, any_file=True), CPU)
            (folder / FILES[entry][1]).unlink()
        return loaded[name]

    return get


def clips_of(frames, side: str) -> list[np.ndarray]:
    """Every clip, (16, H, W, 3) uint8."""
    names = list(frames["names"])
    return [np.stack([frames[side][names.index(name)] for name in clip]) for clip in read("clips.json")["frames"]]


def bicubic(clip: np.ndarray, size: int) -> np.ndarray:
    """(T, H, W, 3) uint8 -> (T, size, size, 3) float32, each channel by itself."""

    def resized(plane: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(plane.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC))

    return np.stack([np.stack([resized(frame[..., c]) for c in range(3)], axis=-1) for frame in clip])


def for_resnet(clip: np.ndarray) -> Tensor:
    """Segments of 16 frames, the last frame repeated, (N, 3, 16, 112, 112)."""
    padded = np.concatenate([clip, np.repeat(clip[-1:], -len(clip) % 16, axis=0)])
    centred = torch.from_numpy((bicubic(padded, 112).astype(np.float64) - MEAN).astype(np.float32))
    return centred.unflatten(0, (-1, 16)).permute(0, 4, 1, 2, 3)


def for_i3d(clip: np.ndarray) -> Tensor:
    return torch.from_numpy(bicubic(clip, 224) / np.float32(127.5) - 1).permute(3, 0, 1, 2)[None]


def for_i3d_bilinear(clip: np.ndarray) -> Tensor:
    images = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
    resized = F.interpolate(images, size=(224, 224), mode="bilinear", align_corners=False)
    return (2 * resized / 255 - 1).permute(1, 0, 2, 3)[None]


def for_inception(image: np.ndarray) -> Tensor:
    picture = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    return 2 * F.interpolate(picture, size=(299, 299), mode="bilinear", align_corners=False) - 1


def fid_images(frames, side: str) -> list[np.ndarray]:
    return list(frames[side][::6])


def difference(found: Tensor, wanted: np.ndarray) -> float:
    assert tuple(found.shape) == wanted.shape
    return float(np.linalg.norm(found.double().numpy() - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", FILES)
def test_the_formula_gives_the_tensors_of_the_goldens(name):
    wrong = [key for key, value in filled(name).items() if crc32(value) != KEYS[FILES[name][0]][key]["crc32"]]
    assert not wrong


# Of pytorch-fid's blocks, the layer that ends each.
INCEPTION_STAGES = {
    "blocks.0.0": "Conv2d_1a_3x3",
    "blocks.0": "pool_1",
    "blocks.1": "pool_2",
    "blocks.2.0": "Mixed_5b",
    "blocks.2.3": "Mixed_6a",
    "blocks.2.7": "Mixed_6e",
    "blocks.2": "Mixed_6e",
    "blocks.3.0": "Mixed_7a",
    "blocks.3.1": "Mixed_7b",
    "blocks.3.2": "Mixed_7c",
    "blocks.3": "pool_3",
}


@pytest.mark.parametrize(
    ("name", "stages", "features", "prepare", "layers"),
    [
        ("resnet3d50", "r3d", "r3d_gen", lambda frames: for_resnet(clips_of(frames, "gen")[0]), {}),
        ("i3d", "i3d", "i3d_gen", lambda frames: for_i3d(clips_of(frames, "gen")[0]), {}),
        ("inception", "fid", "fid_gen", lambda frames: for_inception(fid_images(frames, "gen")[0]), INCEPTION_STAGES),
    ],
    ids=["resnet3d50", "i3d", "inception"],
)
def test_every_stage_is_that_of_the_reference(network, golden, frames, name, stages, features, prepare, layers):
    module, found = network(name).module, {}
    known = dict(module.named_modules())
    wanted = {stage: about for stage, about in read("stages.json")[stages].items() if layers.get(stage, stage) in known}
    hooks = [
        known[layers.get(stage, stage)].register_forward_hook(
            lambda module, inputs, output, stage=stage: found.__setitem__(stage, summary(output))
        )
        for stage in wanted
    ]
    value = module(prepare(frames))
    for hook in hooks:
        hook.remove()
    assert list(found) and found.keys() == wanted.keys()
    for stage, about in wanted.items():
        assert found[stage].pop("shape") == about["shape"], stage
        within = {key: pytest.approx(about[key], rel=1e-5, abs=1e-6 * about["absmax"]) for key in found[stage]}
        assert found[stage] == within, stage
    assert difference(value, golden[features][:1]) < FEATURES


def summary(output: Tensor) -> dict:
    values = output.double()
    return {
        "shape": list(output.shape),
        "mean": values.mean().item(),
        "std": values.std(correction=0).item(),
        "absmax": values.abs().max().item(),
    }


def test_the_variant_of_content_debiased_fvd(network, golden, frames):
    clip = for_i3d_bilinear(clips_of(frames, "gen")[0])
    assert difference(network("i3d_content_debiased").module(clip), golden["cdfvd_i3d_gen"][:1]) < FEATURES


def test_a_pool_over_two_frames_differs_where_more_are_left(network):
    i3d, kept = network("i3d_content_debiased").module, []
    hook = i3d.Mixed_5c.register_forward_hook(lambda module, inputs, output: kept.append(output))
    clip = torch.rand(1, 3, 17, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    value = i3d(clip)
    hook.remove()
    seen = kept[0].mean(dim=(3, 4))
    assert seen.shape == (1, 1024, 3)
    pairs = (seen[..., :-1] + seen[..., 1:]) / 2
    wanted = i3d.logits(pairs[..., None, None]).mean(dim=(2, 3, 4))
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(value, i3d.logits(seen[..., None, None]).mean(dim=(2, 3, 4)), rtol=1e-3)


def test_an_image_larger_than_the_network_takes(network, golden, frames):
    assert difference(network("inception").module(for_inception(frames["fid_big"])), golden["fid_big"]) < FEATURES


@pytest.mark.long
@pytest.mark.parametrize("side", ["gen", "gt"])
def test_features_of_fid_vid(network, golden, frames, side):
    clips = clips_of(frames, side)
    found = torch.cat([network("resnet3d50").module(for_resnet(clip)).mean(dim=0, keepdim=True) for clip in clips])
    assert difference(found, golden[f"r3d_{side}"]) < FEATURES


@pytest.mark.long
@pytest.mark.parametrize("side", ["gen", "gt"])
@pytest.mark.parametrize(
    ("name", "prepare", "row"),
    [("i3d", for_i3d, "i3d"), ("i3d_content_debiased", for_i3d_bilinear, "cdfvd_i3d")],
    ids=["fvd", "content_debiased_fvd"],
)
def test_features_of_fvd(network, golden, frames, side, name, prepare, row):
    module = network(name).module
    found = torch.cat([module(prepare(clip)) for clip in clips_of(frames, side)])
    assert difference(found, golden[f"{row}_{side}"]) < FEATURES


@pytest.mark.long
@pytest.mark.parametrize("side", ["gen", "gt"])
def test_features_of_fid(network, golden, frames, side):
    module = network("inception").module
    found = torch.cat([module(for_inception(image)) for image in fid_images(frames, side)])
    assert difference(found, golden[f"fid_{side}"]) < FEATURES


@pytest.mark.long
def test_features_of_a_whole_video(network, golden, frames):
    video = frames["video_gif"]
    segments = network("resnet3d50").module(for_resnet(video))
    assert segments.shape[0] == 2
    assert difference(segments.mean(dim=0, keepdim=True), golden["r3d_video_gif"]) < FEATURES
    assert difference(network("i3d").module(for_i3d(video)), golden["i3d_video_gif"]) < FEATURES


def pairs(scale: float, shift: float) -> tuple[Tensor, Tensor]:
    """The pictures of the goldens, values / scale - shift, (8, 3, H, W)."""
    stored = read("inputs_pairs.npz")
    gen, gt = (torch.from_numpy(stored[side]).permute(0, 3, 1, 2) / scale - shift for side in ("gen", "gt"))
    return gen, gt


@pytest.mark.parametrize("name", LPIPS)
def test_lpips_of_every_pair_and_layer(network, name):
    wanted = read("lpips.json")["standard"][name]
    module = network(name).module
    layers = module.layers(*pairs(127.5, 1))
    torch.testing.assert_close(layers.T, torch.tensor(wanted["layers"]), rtol=2e-5, atol=1e-8)
    torch.testing.assert_close(module(*pairs(127.5, 1)), torch.tensor(wanted["pairs"]), rtol=2e-5, atol=1e-8)


def test_lpips_of_pictures_from_0_to_1(network):
    wanted = read("lpips.json")["disco_vgg_01"]
    found = network("vgg").module(*pairs(255, 0))
    torch.testing.assert_close(found, torch.tensor(wanted["pairs"]), rtol=2e-5, atol=1e-8)
    assert found.double().mean().item() == pytest.approx(wanted["folder"], rel=2e-5)


def test_lpips_of_sizes_that_differ_is_refused(network):
    with pytest.raises(ValueError, match="one size"):
        network("squeeze").module(torch.zeros(1, 3, 70, 54), torch.zeros(1, 3, 96, 80))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("i3d", (1, 3, 16, 112, 112)), ("resnet3d50", (1, 3, 17, 112, 112)), ("inception", (1, 3, 64, 64))],
)
def test_another_size_than_the_network_takes_is_refused(network, name, shape):
    with pytest.raises(ValueError, match="takes"):
        network(name).module(torch.zeros(shape))


def test_what_a_run_chose_for_its_arithmetic_does_not_reach_features(network):
    module, images = network("squeeze").module, pairs(127.5, 1)
    wanted = module(*images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(*images)
    assert found.dtype == torch.float32 and torch.equal(found, wanted)


def test_loading_leaves_the_global_generator_alone(tmp_path):
    files = NetworkFiles(write_network_files(tmp_path, ["squeezenet"]), any_file=True)
    before = torch.get_rng_state()
    module = load_lpips("squeeze", files, CPU).module
    assert torch.equal(torch.get_rng_state(), before)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
