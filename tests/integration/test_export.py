"""A trained model as a diffusers pipeline: the same videos, whoever opens it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.utils import hub_utils
from full_disk import full_disk
from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled
from motion_files import save_motion
from PIL import Image
from safetensors.torch import load_file, save_file
from svd_pipeline import overrides as svd_overrides
from untrained_checkpoints import write_untrained

from hvg.config.command_options import ExportOptions, SampleOptions
from hvg.config.composition import compose
from hvg.core.checkpoint import Checkpoint
from hvg.core.errors import CheckpointError, HvgError
from hvg.core.files import system_reason
from hvg.data.prepare import prepare
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.model.load import load_exported, load_system
from hvg.pipeline import HumanVideoModel, HumanVideoPipeline
from hvg.sample.camera_paths import around
from hvg.sample.export import export, keep_as
from hvg.sample.generate import open_request
from hvg.train.run import run_folder, train


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A cut-out photo and a motion, as files."""
    folder = tmp_path_factory.mktemp("inputs")
    photo = torch.rand(4, 90, 50, generator=torch.Generator().manual_seed(0)) * 2 - 1
    photo[3] = 1.0
    photo[3, :10] = -1.0
    pixels = ((photo + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels, "RGBA").save(folder / "person.png")
    angles = torch.linspace(0, 1, 4)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    save_motion(folder / "walk.npz", Motion(rotations={"left_shoulder": angles, "pelvis": angles * 0}))
    return folder / "person.png", folder / "walk.npz"


@pytest.fixture(scope="module")
def trained(tiny, cache, tmp_path_factory):
    """A checkpoint whose averaged and raw weights differ."""
    path = tmp_path_factory.mktemp("runs") / "run/checkpoints/step-0000002.ckpt"
    write_untrained(compose([*tiny, cache, "name=run"]), path, 0.02, averaged=True)
    return path


def test_an_export_that_fails_leaves_nothing(trained, tmp_path):
    with full_disk(5000), pytest.raises(OSError) as error:
        list(export(ExportOptions(checkpoint=trained, out=tmp_path / "model")))
    assert system_reason(error.value) == f"{tmp_path / 'model'}: File too large"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "model"
    list(export(ExportOptions(checkpoint=trained, out=folder)))
    return folder


@pytest.fixture(scope="module")
def pretrained(tiny, svd_folder, tmp_path_factory):
    """The export of a model with a VAE and CLIP, made where the pipeline that it started from is gone afterwards."""
    source = shutil.copytree(svd_folder, tmp_path_factory.mktemp("published") / "svd")
    data = [word for word in tiny if word.startswith(("dataset.", "data.")) and "image_size" not in word]
    config = compose([*data, "dataset.image_size=64", *svd_overrides(source)])
    checkpoint = source.parent / "step-0000001.ckpt"
    system = write_untrained(config, checkpoint, 0.02)
    folder = source.parent / "model"
    list(export(ExportOptions(checkpoint=checkpoint, out=folder, weights="raw")))
    shutil.rmtree(source)
    return folder, system.eval()


def sampled(checkpoint, inputs, overrides=(), **given) -> torch.Tensor:
    """What `hvg sample` generates."""
    image, motion = inputs
    options = SampleOptions(checkpoint=checkpoint, reference=image, motion=motion, **given)
    request = open_request(options, list(overrides))
    evaluation = request.config.evaluation
    steps = options.steps or evaluation.steps
    return request.system.generate(request.batch, num_steps=steps, seed=evaluation.seed)[0]


def opened(folder):
    """By the library, which runs the folder's pipeline.py, and by our class, which does not."""
    from diffusers import DiffusionPipeline

    yield DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    yield HumanVideoPipeline.from_pretrained(folder)


@pytest.mark.parametrize("camera", ["orbit", "static"])
def test_the_pipeline_generates_what_hvg_sample_does(trained, exported, inputs, camera):
    expected = sampled(trained, inputs, camera=camera)
    for pipeline in opened(exported):
        assert isinstance(pipeline, HumanVideoPipeline)
        pipeline.set_progress_bar_config(disable=True)
        assert torch.equal(pipeline(*inputs, camera=camera, output_type="pt").frames, expected)
    assert torch.equal(sampled(exported, inputs, camera=camera), expected)


def test_the_pipeline_reads_a_motion_as_it_is_told(trained, exported, inputs, tmp_path):
    pipeline = HumanVideoPipeline.from_pretrained(exported)
    pipeline.set_progress_bar_config(disable=True)
    image, motion = inputs
    words = {"camera": "static", "convention": "smplx_flat", "up": "z"}
    expected = sampled(trained, inputs, **words)
    assert torch.equal(pipeline(image, motion, output_type="pt", **words).frames, expected)
    assert not torch.equal(pipeline(image, motion, output_type="pt", camera="static").frames, expected)
    with pytest.raises(HvgError, match="person=1 is for folders"):
        pipeline(image, motion, person=1)
    with pytest.raises(HvgError, match="up= says how a file is read; the motion is one already"):
        pipeline(image, load_motion(motion), up="z")


@pytest.mark.long
def test_two_signals_train_and_are_exported_and_each_is_heard_as_strongly_as_asked(tiny, inputs, tmp_path):
    """One beside the noise as well as at the stem, one beside it alone, and a photo that the first view alone is told."""
    signals = ["pose.inject=both", "+slots.pose2.name=skeleton", "slots.pose2.inject=channels"]
    dropped = [f"{slot}.{word}" for slot in ("pose", "slots.pose2") for word in ("dropout=0.2", "drops=alone")]
    told = ["appearance.views=first", "reference_keys.views=first", "data.recolour=0"]
    words = [*tiny, *signals, *dropped, *told, f"output={tmp_path}", f"data.cache={tmp_path / 'cache'}"]
    drawn, cached = compose([*words, "name=drawn"]), compose([*words, "name=cached", "data.latents=cached"])
    train(drawn)
    prepare([cached], ("train", "val"), jobs=1)
    train(cached)
    weights = [load_system(run_folder(config))[0].state_dict() for config in (drawn, cached)]
    assert all(torch.equal(weights[1][name], x) for name, x in weights[0].items())
    list(export(ExportOptions(checkpoint=run_folder(drawn), out=tmp_path / "model")))
    pipeline, strengths = HumanVideoPipeline.from_pretrained(tmp_path / "model"), {"pose": 0.5, "pose2": 0.0}

    def frames(**given):
        return pipeline(*inputs, camera="static", num_frames=2, output_type="pt", **given).frames

    asked = ["pose.strength=0.5", "slots.pose2.strength=0"]
    expected = sampled(run_folder(drawn), inputs, asked, camera="static", frames=2)
    assert torch.equal(frames(strengths=strengths), expected) and not torch.equal(frames(), expected)
    with pytest.raises(HvgError, match="pose3: cannot change after training"):
        frames(strengths={"pose3": 1.0})


def test_ready_values_are_taken_as_well_as_files(exported, inputs):
    pipeline = HumanVideoPipeline.from_pretrained(exported)
    image, motion = inputs
    target = torch.tensor([0.0, 0.9, 0.0])
    cameras = around(target, 3, elevation_degrees=0.0, distance=3.0, fov_degrees=40.0, image_size=(32, 32)).cameras
    frames = pipeline(Image.open(image), load_motion(motion), cameras, num_frames=2, num_inference_steps=1).frames
    assert [len(view) for view in frames] == [2, 2, 2] and frames[0][0].size == (32, 32)


def test_an_open_picture_is_taken_as_its_file_is(exported, inputs, tmp_path, monkeypatch):
    """Its orientation too; no file is written for it, and it stays as it was."""
    pipeline, motion = HumanVideoPipeline.from_pretrained(exported), shutil.copy(inputs[1], tmp_path / "motion.npz")
    picture, turned = Image.open(inputs[0]), Image.Exif()
    turned[0x0112] = 6
    picture.save(tmp_path / "image.png", exif=turned)
    picture = Image.open(tmp_path / "image.png")
    monkeypatch.setattr(Image.Image, "save", None)

    def frames(image):
        return pipeline(image, motion, camera="static", num_frames=1, num_inference_steps=1, output_type="pt").frames

    assert torch.equal(frames(picture), frames(tmp_path / "image.png"))
    assert picture.size == (50, 90) and picture.getexif()[0x0112] == 6


def test_noise_comes_from_the_seed_or_the_generator(exported, inputs):
    pipeline = HumanVideoPipeline.from_pretrained(exported)

    def frames(**given):
        return pipeline(*inputs, camera="static", num_frames=1, output_type="pt", **given).frames

    one, same, other = (frames(generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert torch.equal(frames(seed=5), frames(seed=5)) and not torch.equal(frames(seed=5), frames(seed=6))


def test_a_model_with_published_parts_holds_them(pretrained, inputs):
    folder, system = pretrained
    index = json.loads((folder / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKLTemporalDecoder"]
    assert index["image_encoder"] == ["transformers", "CLIPVisionModelWithProjection"]
    assert not list(folder.rglob("*.bin"))
    again, _ = load_exported(folder)
    kept = system.state_dict()
    assert all(torch.equal(kept[name], x) for name, x in again.state_dict().items()) and kept
    for pipeline in opened(folder):
        pipeline.set_progress_bar_config(disable=True)
        assert pipeline.vae is pipeline.model.system.codec.frozen()["vae"]
        frames = pipeline(*inputs, camera="static", num_frames=2, num_inference_steps=2, output_type="pt").frames
        assert torch.equal(frames, sampled(folder, inputs, camera="static", frames=2, steps=2))


def test_the_published_parts_are_those_of_the_run(pretrained):
    """Compared by what they do: the folder that the run read them from is gone."""
    folder, system = pretrained
    again, _ = load_exported(folder)
    photo = torch.rand(1, 1, 1, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(again.codec.encode(photo), system.codec.encode(photo), rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_the_chosen_weights_are_exported(trained, tmp_path, weights):
    list(export(ExportOptions(checkpoint=trained, out=tmp_path / "model", weights=weights)))
    expected, _ = load_system(trained, weights)
    got = load_exported(tmp_path / "model")[0].state_dict()
    assert all(torch.equal(got[name], x) for name, x in expected.state_dict().items())
    raw = Checkpoint(trained).section("weights")
    assert all(torch.equal(got[name], x) for name, x in raw.items()) == (weights == "raw")


def test_half_precision_takes_half_the_space_and_opens_as_single(trained, exported, tmp_path):
    list(export(ExportOptions(checkpoint=trained, out=tmp_path / "half", dtype="float16")))
    sizes = [
        sum(path.stat().st_size for path in folder.rglob("*.safetensors")) for folder in (tmp_path / "half", exported)
    ]
    assert sizes[0] < 0.51 * sizes[1]
    whole, half = (load_exported(folder)[0].state_dict() for folder in (exported, tmp_path / "half"))
    assert all(torch.equal(half[name], x.half().float()) for name, x in whole.items())
    assert not all(torch.equal(half[name], x) for name, x in whole.items())


def test_numbers_that_half_precision_does_not_hold_are_refused():
    layer = torch.nn.Linear(1, 1)
    layer.bias.data.fill_(1e5)
    with pytest.raises(HvgError, match="dtype=float16 does not hold the numbers of bias; leave it out"):
        keep_as(layer, torch.float16)


def test_the_command_and_its_errors(hvg, trained, exported, tmp_path):
    done = hvg("export", f"checkpoint={trained}", f"out={tmp_path / 'model'}")
    assert done.returncode == 0, done.stderr
    assert "model/" in done.stdout
    scored = hvg("evaluate", f"checkpoint={tmp_path / 'model'}", f"out={tmp_path / 'scores'}")
    assert scored.returncode == 0, scored.stderr
    for words, message in [
        ([f"checkpoint={trained}", f"out={exported}"], "exists already"),
        ([f"checkpoint={tmp_path / 'no.ckpt'}", f"out={tmp_path / 'new'}"], "no such checkpoint"),
        ([f"checkpoint={trained}", f"out={tmp_path / 'new'}", "wieghts=raw"], "Did you mean 'weights'"),
    ]:
        failed = hvg("export", *words)
        assert failed.returncode == 1 and message in failed.stderr and "Traceback" not in failed.stderr
    assert not (tmp_path / "new").exists()


def content(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of every file of a folder, but for what the library says of itself."""
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return files | {name: _settings(text) for name, text in files.items() if name.endswith(".json")}


def _settings(text: bytes) -> bytes:
    """Without where it was opened from."""
    found = {key: value for key, value in json.loads(text).items() if key != "_name_or_path"}
    return json.dumps(found, sort_keys=True).encode()


@pytest.mark.parametrize("which", ["exported", "pretrained"])
def test_what_the_library_sends_to_the_hub_is_the_folder_that_was_exported(which, request, tmp_path, monkeypatch):
    """The calls that ask the network are its own, at its borders: there is no account, and no address."""
    folder, sent = request.getfixturevalue(which), {}
    folder = folder[0] if isinstance(folder, tuple) else folder

    def upload(**words) -> str:
        sent.update(words, folder_path=shutil.copytree(words["folder_path"], tmp_path / "sent"))
        return "the commit"

    def no_card(*_, **__) -> None:
        raise EntryNotFoundError("none yet")

    monkeypatch.setattr(hub_utils, "create_repo", lambda name, **words: SimpleNamespace(repo_id=f"lab/{name}"))
    monkeypatch.setattr(hub_utils, "upload_folder", upload)
    monkeypatch.setattr(hub_utils.ModelCard, "load", no_card)
    told = HumanVideoPipeline.from_pretrained(folder).push_to_hub("people", commit_message="bone map, 660 steps")
    assert told == "the commit" and sent["repo_id"] == "lab/people"
    assert sent["commit_message"] == "bone map, 660 steps"
    there, here = content(tmp_path / "sent"), content(folder)
    assert there.keys() - here.keys() == {"README.md"} and here.keys() - there.keys() == set()
    assert {name for name in here if there[name] != here[name]} == set()
    again, expected = load_exported(tmp_path / "sent")[0].state_dict(), load_exported(folder)[0].state_dict()
    assert again.keys() == expected.keys() and all(torch.equal(again[name], x) for name, x in expected.items())


def test_without_a_network_the_hub_is_one_line(exported, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineModeIsEnabled) as error:
        HumanVideoPipeline.from_pretrained(exported).push_to_hub("people")
    assert "offline mode is enabled" in str(error.value) and len(str(error.value).splitlines()) == 1


def test_a_run_starts_from_an_export(trained, exported, tiny, cache, tmp_path):
    words = [*tiny, cache, f"output={tmp_path}", "training.steps=1", "training.learning_rate=1e-30"]
    config = compose([*words, f"checkpoint={exported}"])
    train(config)
    expected = load_system(trained)[0].state_dict()
    for name, x in load_system(run_folder(config))[0].state_dict().items():
        torch.testing.assert_close(x, expected[name], rtol=0, atol=1e-6)


def test_a_damaged_export_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "model")
    path = folder / "model/diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    name = next(iter(weights))
    save_file({key: x for key, x in weights.items() if key != name}, path)
    with pytest.raises(CheckpointError, match=f"missing {name.removeprefix('system.')}$"):
        HumanVideoPipeline.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="no folder that `hvg export` wrote"):
        load_exported(tmp_path)
    with pytest.raises(HvgError, match="float32"):
        HumanVideoModel.from_pretrained(exported / "model", torch_dtype=torch.float16)


def test_an_encoder_of_text_goes_with_the_model(tiny, text_folder, inputs, tmp_path):
    """Weights and tokenizer, so that a prompt is read alike where the folder that it came from is gone."""
    source = shutil.copytree(text_folder / "umt5", tmp_path / "umt5")
    words = ["text=prompt", "text.encoder=umt5", f"text.path={source}", "text.encoder_settings.precision='32'"]
    words += ["text.default=somebody", "text.dropout=0.1", "guidance.value=3", "backbone.cross_attention_width=24"]
    config = compose([*tiny, *words])
    checkpoint = tmp_path / "step-0000001.ckpt"
    write_untrained(config, checkpoint, 0.05)
    folder = tmp_path / "model"
    list(export(ExportOptions(checkpoint=checkpoint, out=folder, weights="raw")))
    asked = {"camera": "static", "prompt": "a person in a red coat"}
    expected = sampled(checkpoint, inputs, weights="raw", **asked)
    other = sampled(checkpoint, inputs, weights="raw", camera="static", prompt="a person walks")
    negative = sampled(checkpoint, inputs, ["text.negative='a blue coat'"], weights="raw", **asked)
    shutil.rmtree(source)
    assert torch.equal(sampled(folder, inputs, **asked), expected)
    assert not torch.equal(other, expected) and not torch.equal(negative, expected)
    for pipeline in opened(folder):
        pipeline.set_progress_bar_config(disable=True)
        assert type(pipeline.text_encoder).__name__ == "UMT5EncoderModel"
        assert torch.equal(pipeline(*inputs, **asked, output_type="pt").frames, expected)
