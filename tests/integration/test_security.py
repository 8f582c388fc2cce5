"""Files from anyone: a corpus of hostile ones, each answered by one message and nothing else."""

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from footage import read_video
from motion_files import save_motion
from omegaconf import OmegaConf

from hvg import cli
from hvg.config.composition import compose, load_resolved, parse_resolved, recompose
from hvg.core import arrays
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.data.clip_files import encode_clip
from hvg.data.shard_writing import write_shard
from hvg.data.shards import ShardReader, index_path
from hvg.geometry.motion import Motion
from hvg.geometry.motion_files import load_motion
from hvg.media.folder_clips import find_clips
from hvg.media.photo import load_photo
from hvg.media.video import write_video
from hvg.model.checkpoint_writing import write_checkpoint
from hvg.parts.network_files import NetworkFiles
from hvg.parts.pretrained import Component
from hvg.score.evaluation import _rescored
from hvg.study.study_file import load_study
from hvg.testing import tiny_batch

CANARY = "canary"


class Bomb:
    """Leaves the canary when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working folder, inside one that is watched: nothing may appear but what the test itself wrote."""
    folder = tmp_path / "watched" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HVG_SECRET", "the-secret-word")
    return folder


def files() -> set[Path]:
    """All that lies in the watched folder."""
    return set(Path("..").rglob("*"))


def refused(capsys, *words: str) -> str:
    """The message of a command that has to fail with exit code 1 and to leave everything as it was."""
    before = files()
    capsys.readouterr()
    assert cli.run(words) == 1
    said = capsys.readouterr()
    assert files() == before and not Path(CANARY).exists()
    assert said.err.startswith(f"hvg {words[0]}: ") and "Traceback" not in said.err
    assert "the-secret-word" not in said.out + said.err
    return said.err


def test_the_corpus_is_live(place):
    pickle.loads(pickle.dumps(Bomb()))
    assert Path(CANARY).exists()


# --- weights ------------------------------------------------------------------------------------------------------


def bombs() -> dict[str, bytes]:
    """Ways in which PyTorch stores what unpickles."""
    stream = io.BytesIO()
    torch.save({"state_dict": {"conv1.weight": torch.zeros(2), "bomb": Bomb()}}, stream)
    return {"pickle": pickle.dumps({"state_dict": Bomb()}, 2), "torch": stream.getvalue()}


def commands(checkpoint: str) -> list[tuple[str, ...]]:
    """Everything that opens a checkpoint."""
    save_motion("walk.npz", Motion(rotations={"pelvis": torch.zeros(2, 3)}))
    return [
        ("evaluate", f"checkpoint={checkpoint}"),
        ("sample", f"checkpoint={checkpoint}", "reference=me.png", "motion=walk.npz", "out=videos"),
        ("export", f"checkpoint={checkpoint}", "out=exported"),
    ]


@pytest.mark.parametrize("suffix", ["ckpt", "pt", "safetensors"])
@pytest.mark.parametrize("kind", bombs())
def test_a_bomb_is_no_checkpoint(place, capsys, suffix, kind):
    bomb = Path(f"step-0000001.{suffix}")
    bomb.write_bytes(bombs()[kind])
    for words in commands(str(bomb)):
        message = refused(capsys, *words)
        assert message.count("\n") == 1 and f"{bomb}: not a checkpoint" in message


@pytest.mark.parametrize("name", ["manifest.json", "tensors"])
def test_a_bomb_inside_a_checkpoint(place, capsys, name):
    folder = Path("run/checkpoints/step-0000001.ckpt")
    write_checkpoint(folder, {"global_step": 1, "config": "seed: 0", "weights": torch.zeros(3)})
    for path in folder.iterdir():
        if path.name.startswith(name):
            path.write_bytes(bombs()["torch"])
    for words in commands("run"):
        message = refused(capsys, *words)
        assert message.count("\n") == 1 and "damaged" in message and "step-0000001.ckpt" in message


@pytest.mark.parametrize("kind", bombs())
def test_networks_of_metrics(place, capsys, kind):
    Path("networks").mkdir()
    for name in ("i3d_pretrained_400.pt", "resnet-50-kinetics.pth", "vgg16-397923af.safetensors"):
        Path("networks", name).write_bytes(bombs()[kind])
    for network in ("i3d", "resnet3d50", "vgg16"):
        with pytest.raises(HvgError) as error:
            NetworkFiles(Path("networks"), any_file=True).load(network)
        assert "\n" not in str(error.value)
    assert cli.run(["weights", "folder=networks"]) == 1
    assert "never unpickled" in capsys.readouterr().out
    assert not Path(CANARY).exists()


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": "{"},
        {"config.json": "[" * 100_000},
        {"config.json": "[]"},
        {"config.json": "{}"},
        {"config.json": '{"run": {}, "frozen": [[]]}'},
        {"config.json": '{"run": {"seed": 0}, "frozen": []}'},
    ],
)
def test_an_export_of_a_stranger(place, capsys, files):
    Path("export/model").mkdir(parents=True)
    Path("export/model_index.json").write_text("{}")
    for name, text in files.items():
        Path("export/model", name).write_text(text)
    for words in commands("export"):
        refused(capsys, *words)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_an_index_of_published_weights(place, text):
    Path("unet").mkdir()
    Path("unet/diffusion_pytorch_model.safetensors.index.json").write_text(text)
    with pytest.raises(HvgError, match="no unet at"):
        Component(place="unet", name="unet", setting="backbone.weights").weights()


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_published_weights(place, suffix):
    Path("unet").mkdir()
    Path("unet/config.json").write_text("{}")
    Path(f"unet/diffusion_pytorch_model.{suffix}").write_bytes(bombs()["torch"])
    with pytest.raises(HvgError, match="no unet at") as error:
        Component(place="unet", name="unet", setting="backbone.weights").weights()
    assert "\n" not in str(error.value) and not Path(CANARY).exists()


# --- motion -------------------------------------------------------------------------------------------------------


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    """An .npy file whose header says what it likes."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def archive(**members: bytes) -> bytes:
    """An .npz of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return stream.getvalue()


def objects() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, poses=np.array([Bomb(), None], dtype=object))
    return stream.getvalue()


def overlapping() -> bytes:
    """A member that says it is larger than what unpacks from it."""
    data = bytearray(archive(**{"poses.npy": npy("'<f8'", "(2, 66)", bytes(2 * 66 * 8))}))
    central = data.rfind(b"PK\x01\x02")
    data[central + 24 : central + 28] = struct.pack("<I", 2**32 - 2)
    return bytes(data)


MOTIONS = {
    "objects": (objects(), "pickled Python objects"),
    "pickle": (pickle.dumps(Bomb()), "is a pickle, a program that hvg never runs"),
    "pickle inside": (archive(**{"poses.npy": pickle.dumps(Bomb())}), "magic string"),
    "arithmetic for a shape": (archive(**{"poses.npy": npy("'<f8'", "(10**0, 1)")}), "poses"),
    "a body of a program": (
        archive(**{"joints.npy": npy("'<f4'", "(1, 22, 3)", bytes(264)), "bone_radii.npy": pickle.dumps(Bomb())}),
        "magic string",
    ),
    "claims 10 TB": (archive(**{"poses.npy": npy("'<f8'", "(1250000000000, 1)", bytes(8))}), "claims 10000000000000"),
    "negative": (archive(**{"poses.npy": npy("'<f8'", "(-1, 66)", bytes(8))}), "claims"),
    "overflow": (archive(**{"poses.npy": npy("'<f8'", "(0, 99999999999999999999999)")}), "poses"),
    "a program for a header": (
        archive(**{"poses.npy": npy("__import__('os').system('touch canary')", "(1,)")}),
        "poses",
    ),
    "a long header": (archive(**{"poses.npy": npy("'<f8'", "(" + "1," * 8000 + ")")}), "poses"),
    "says 4 GB": (overlapping(), "take 4294967294 bytes unpacked"),
    "one array": (npy("'<f8'", "(1, 66)", bytes(528)), "a single array"),
    "climbs": (archive(**{"../../poses.npy": npy("'<f8'", "(1, 66)", bytes(528))}), "found the keys"),
    "rate of text": (
        archive(
            **{"poses.npy": npy("'<f8'", "(1, 66)", bytes(528)), "mocap_framerate.npy": npy("'<U1'", "()", b"a\0\0\0")}
        ),
        "one positive number",
    ),
}


@pytest.mark.parametrize("case", MOTIONS)
def test_hostile_motions(place, capsys, case):
    data, message = MOTIONS[case]
    Path("walk.npz").write_bytes(data)
    said = refused(capsys, "sample", "checkpoint=run", "reference=me.png", "motion=walk.npz", "out=videos")
    assert said.count("\n") == 1 and "walk.npz" in said and message in said


def test_a_motion_that_unpacks_to_more_than_fits(place, monkeypatch):
    monkeypatch.setattr(arrays, "LARGEST_ARCHIVE", 2**20)
    Path("walk.npz").write_bytes(archive(**{"poses.npy": npy("'<f8'", "(8000, 66)", bytes(8000 * 66 * 8))}))
    assert Path("walk.npz").stat().st_size < 2**14
    with pytest.raises(DataError, match="take 4224128 bytes unpacked; at most 1048576 are read"):
        load_motion("walk.npz")


# --- shards -------------------------------------------------------------------------------------------------------


def clip(name: str = "clip-0"):
    return replace(tiny_batch(seed=0).clips(slice(0, 1)), clip_id=(name,))


def shard(replaced: dict[str, bytes] | None = None, **index: object) -> Path:
    """A shard with some files of its clip, and some entries of its index, replaced."""
    path = Path("shards/test-0.tar")
    path.parent.mkdir(exist_ok=True)
    content = {f"clip-0.{name}": data for name, data in encode_clip(clip()).items()}
    content |= {f"clip-0.{name}": data for name, data in (replaced or {}).items()}
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with tarfile.open(path) as tar:
        members = {m.name: (m.offset_data, m.size) for m in tar}
    whole = {"format": "hvg-shard-1", "bytes": path.stat().st_size, "clips": ["clip-0"], "members": members}
    index_path(path).write_text(json.dumps(whole | index))
    return path


def odd_members() -> list[tarfile.TarInfo]:
    """What a tar can say that unpacking would follow."""
    found = [tarfile.TarInfo(name) for name in ("../escaped", "/tmp/hvg-escaped", "clip-0/../../../escaped")]
    for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../../escaped"), (tarfile.SYMTYPE, "..")):
        found.append(tarfile.TarInfo(f"clip-0.link{len(found)}.npy"))
        found[-1].type, found[-1].linkname = kind, target
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        found.append(tarfile.TarInfo(f"clip-0.device{len(found)}.npy"))
        found[-1].type, found[-1].devmajor, found[-1].devminor = kind, 1, 5
    found.append(tarfile.TarInfo("clip-0.huge.npy"))
    found[-1].size = 2**60
    return found


@pytest.mark.parametrize("member", odd_members(), ids=lambda member: f"{member.name}-{member.type.decode()}")
def test_a_shard_is_never_unpacked(place, member):
    """Its clips are read as ever: members that no index points at are not looked at."""
    path = shard()
    index = json.loads(index_path(path).read_text())
    # GNU's format writes sizes beyond 8 GB; the end of the archive follows.
    path.write_bytes(path.read_bytes() + member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    index_path(path).write_text(json.dumps(index | {"bytes": path.stat().st_size}))
    before = files()
    assert ShardReader(path).load(0).clip_id == ("clip-0",)
    assert files() == before


INDICES = {
    "no JSON": "{",
    "a list": "[]",
    "deep": "[" * 100000,
    "another format": {"format": "x"},
    "no clips": {"clips": None},
    "clips of numbers": {"clips": 3},
    "climbs": {"clips": ["../../escaped"], "members": {}},
    "absolute": {"clips": ["/tmp/escaped"], "members": {}},
    "members of another clip": {"members": {"clip-1.meta.json": [0, 10]}},
    "beyond the end": {"members": {"clip-0.meta.json": [0, 2**60]}},
    "before the start": {"members": {"clip-0.meta.json": [-5, 10]}},
    "negative size": {"members": {"clip-0.meta.json": [512, -1]}},
    "fractions": {"members": {"clip-0.meta.json": [0.5, 1]}},
    "one place": {"members": {"clip-0.meta.json": 512}},
    "the same bytes many times": {"members": {f"clip-0.{k}.npy": [0, 1024] for k in range(1000)}},
    "bytes of text": {"bytes": "many"},
}


@pytest.mark.parametrize("case", INDICES)
def test_hostile_indices(place, case):
    changed = INDICES[case]
    path = shard(**(changed if isinstance(changed, dict) else {}))
    if isinstance(changed, str):
        index_path(path).write_text(changed)
    with pytest.raises(DataError, match=r"test-0\.tar") as error:
        ShardReader(path)
    assert "\n" not in str(error.value)


def meta(**changed: object) -> dict[str, bytes]:
    return {"meta.json": json.dumps({**json.loads(encode_clip(clip())["meta.json"]), **changed}).encode()}


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, of a few bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    parts = [struct.pack(">I", len(x)) + kind + x + struct.pack(">I", zlib.crc32(kind + x)) for kind, x in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(canary) (w) file closefile\n"
CLIPS = {
    "objects": {"body_joints.npy": pickle.dumps(Bomb())},
    "an archive": {"body_joints.npy": objects()},
    "claims 10 TB": {"body_joints.npy": npy("'<f8'", "(1250000000000,)", bytes(8))},
    "records": {"body_joints.npy": npy("[('a', '<f8')]", "(1,)", bytes(8))},
    "meta is a list": {"meta.json": b"[]"},
    "meta is no JSON": {"meta.json": pickle.dumps(Bomb())},
    "deep meta": {"meta.json": b"[" * 100000},
    "no meta": {"meta.json": b"{}"},
    "another name": meta(clip_id="../../escaped"),
    "a name of numbers": meta(clip_id=[1, 2]),
    "sizes of text": meta(image_size="ab"),
    "a bomb of pixels": {"frames.000.000.png": png(50000, 50000)},
    "a picture in a language": {"frames.000.000.png": EPS},
    "a picture without a place": {"frames.x.y.png": png(4, 4)},
}


@pytest.mark.parametrize("case", CLIPS)
def test_hostile_clips(place, case):
    reader = ShardReader(shard(CLIPS[case]))
    before = files()
    with pytest.raises(DataError, match=r"test-0\.tar: clip 'clip-0'") as error:
        reader.load(0)
    assert "\n" not in str(error.value) and files() == before


def test_a_hostile_shard_on_the_command_line(place, capsys):
    shard(CLIPS["another name"])
    message = refused(
        capsys, "show", "dataset=shards", "dataset.path=shards", "dataset.split=test", "split=test", "out=x.png"
    )
    assert "calls itself '../../escaped'" in message and message.count("\n") == 1


def test_names_of_clips_that_were_written_are_read(place):
    write_shard(Path("folders.tar"), [clip("subject 1/clip-0")])
    assert ShardReader(Path("folders.tar")).load(0).clip_id == ("subject 1/clip-0",)


# --- configurations -----------------------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
YAMLS = {
    "object": (f"name: !!python/object/apply:os.system ['touch {CANARY}']", "could not determine a constructor"),
    "module": ("name: !!python/name:os.system", "could not determine a constructor"),
    "laughs": (LAUGHS, "aliases (*a) are not read"),
    "a loop": ("a: &a [*a]", "aliases (*a) are not read"),
    "merge": ("a: &a {b: 1}\nc:\n  <<: *a", "aliases (*a) are not read"),
    "deep": ("[" * 2000, "YAML"),
    "digits": ("seed: " + "9" * 10000, "YAML"),
    "a date": ("seed: 2024-99-99", "YAML"),
}
CONFIGS = {
    "_target_": ("backbone: {_target_: os.system, command: touch canary}", "never by a class path"),
    "environment": (
        "name: ${oc.env:HVG_SECRET}",
        "cannot be interpolated: write the value; got '${oc.env:HVG_SECRET}'",
    ),
    "in a list": ("data: {augmentations: ['${oc.env:HVG_SECRET}']}", "data.augmentations.0: cannot be interpolated"),
    "decoded": ("seed: ${oc.decode:'1'}", "cannot be interpolated"),
    "a key": ("name: ${output}", "cannot be interpolated"),
}


@pytest.mark.parametrize("case", [*YAMLS, *CONFIGS])
def test_hostile_run_folders(place, case):
    """As `hvg study` reads them in the process of an arm."""
    text, message = (YAMLS | CONFIGS)[case]
    Path("config.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_resolved("config.yaml")
    assert message in str(error.value) and "the-secret-word" not in str(error.value)
    assert not any("\n" in str(problem) for problem in error.value.problems)
    assert files() == {Path("../work"), Path("../work/config.yaml")}


def test_a_program_that_a_checkpoint_brings_is_not_run(place, capsys, tiny):
    """TorchScript is a program: what the settings of a trained model name runs only where the command line names it too."""
    settings = "{path: theirs.pt, names: [nose], root: [nose]}"
    pose = f"+protocol.metrics.pose={{name: joint_error, regressor: torchscript, regressor_settings: {settings}}}"
    config = compose([*tiny, pose]).to_yaml()
    Path("theirs.pt").write_bytes(bombs()["torch"])
    write_checkpoint(Path("run/checkpoints/step-0000001.ckpt"), {"global_step": 1, "config": config})
    message = refused(capsys, "evaluate", "checkpoint=run")
    assert "would run the program theirs.pt" in message and "protocol.metrics.pose.regressor_settings.path=" in message
    allowed = refused(capsys, "evaluate", "checkpoint=run", "protocol.metrics.pose.regressor_settings.path=./theirs.pt")
    assert "would run" not in allowed


OTHER = "{name: joint_error, regressor: torchscript, regressor_settings: {path: view, names: [nose], root: [nose]}}"


@pytest.mark.parametrize(
    "words",
    [
        ["sampler=view"],
        ["evaluation.networks=review"],
        [f"protocol.metrics.pose.regressor_settings.{key}=[view]" for key in ("names", "root")],
        [f"++protocol.metrics.other={OTHER}"],
    ],
)
def test_words_that_mean_something_else_do_not_permit_a_program(place, tiny, words):
    pose = f"+protocol.metrics.pose={OTHER}"
    with pytest.raises(HvgError, match=r"would run the program view; .*pose\.regressor_settings\.path="):
        _rescored(compose([*tiny, pose]), words, Path("run"), shift=False)


@pytest.mark.parametrize("case", ["object", "laughs", "_target_", "environment"])
def test_hostile_settings_in_a_checkpoint(place, capsys, case):
    text, message = (YAMLS | CONFIGS)[case]
    write_checkpoint(Path("run/checkpoints/step-0000001.ckpt"), {"global_step": 1, "config": text})
    for words in commands("run"):
        assert message in refused(capsys, *words)


@pytest.mark.parametrize("case", YAMLS)
def test_hostile_studies(place, capsys, case):
    Path("study").mkdir()
    Path("study/study.yaml").write_text(YAMLS[case][0])
    message = refused(capsys, "study", "study")
    assert YAMLS[case][1] in message and message.count("\n") == 1 and "study/study.yaml" in message


def test_a_study_of_hostile_overrides(place, capsys):
    Path("study").mkdir()
    words = {"title": "t", "question": "q", "varies": ["pose"], "arms": {"a": ["logger.project=${oc.env:HVG_SECRET}"]}}
    Path("study/study.yaml").write_text(json.dumps(words))
    assert load_study(Path("study")).arms["a"]
    assert "arm a: logger.project: cannot be interpolated" in refused(capsys, "study", "study")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "logger.project=${oc.env:HVG_SECRET}",
            "logger.project: cannot be interpolated: only keys of the configuration",
        ),
        ("logger.project=x-${oc.env:HVG_SECRET}-y", "logger.project: cannot be interpolated"),
        ("logger.project=${oc.decode:${oc.env:HVG_SECRET}}", "cannot be read as key=value"),
        ("logger.project=${canary:x}", "logger.project: cannot be interpolated"),
        ("logger.project=${${name}:x}", "cannot be read as key=value"),
        ("logger.project='${${name}:x}'", "logger.project: cannot be interpolated"),
        ("logger.project='${oc.decode:${oc.env:HVG_SECRET}}'", "logger.project: cannot be interpolated"),
        (r"logger.project=\${oc.env:HVG_SECRET}", "logger.project: cannot be interpolated"),
        (r"logger.project=\${name}", "logger.project: cannot be interpolated: write the value; got '${name}'"),
        ("+slots={x: {name: '${oc.env:HVG_SECRET}'}}", "slots.x.name: cannot be interpolated"),
        ("data.augmentations=['${oc.env:HVG_SECRET}']", "data.augmentations.0: cannot be interpolated"),
        ("backbone=${oc.env:HVG_SECRET}", "backbone: no backbone is named '${oc.env:HVG_SECRET}'"),
        ("backbone=../../../escaped", "backbone: "),
        ("+backbone._target_=os.system", "backbone._target_: parts are chosen by `name`"),
        ("+x={_target_: os.system}", "x: unknown key or option."),
        ("+slots.x={_target_: os.system}", "slots.x._target_: parts are chosen by `name`"),
        ("name=!!python/object/apply:os.system", "cannot be read as key=value"),
        ("hydra.searchpath=[file:///tmp]", "hydra.searchpath: Hydra's own settings have no effect"),
        ("+hydra/callbacks=x", "Hydra's own settings have no effect"),
    ],
)
def test_hostile_overrides(place, capsys, override, message):
    called = []
    OmegaConf.register_new_resolver("canary", called.append, replace=True)
    try:
        assert message in refused(capsys, "show", override)
    finally:
        OmegaConf.clear_resolver("canary")
    assert not called


def test_keys_of_the_configuration_may_be_interpolated():
    config = compose(["output=elsewhere", "logger.project=${output}-${data.views}"])
    assert config.logger.project == f"elsewhere-{config.data.views}"
    assert parse_resolved(config.to_yaml(), "config.yaml") == config


def test_a_trained_model_is_not_sampled_with_the_environment(place):
    config = compose(["evaluation.networks=somewhere"])
    with pytest.raises(ConfigError, match=r"evaluation\.networks: cannot be interpolated") as error:
        recompose(config, ["evaluation.networks=${oc.env:HVG_SECRET}"])
    assert "the-secret-word" not in str(error.value)
    assert str(recompose(config, ["evaluation.networks=${name}"]).evaluation.networks) == config.name


# --- pictures and videos ------------------------------------------------------------------------------------------


def test_a_photo_that_claims_too_many_pixels(place):
    Path("photo.png").write_bytes(png(50000, 50000))
    with pytest.raises(
        DataError, match=r"photo\.png: has more than 179 million pixels; at most 67 million are read"
    ) as error:
        load_photo(Path("photo.png"), (64, 64), fraction=0.9, box=None, background=(1, 1, 1))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["$(touch canary).mp4", "; touch canary #.mp4", "concat:a|b.mp4", "-i.mp4", "%d.mp4"])
def test_names_of_videos_are_only_names(place, name):
    Path("videos").mkdir()
    write_video(Path("videos/x.mp4"), torch.zeros(2, 3, 16, 16), 8.0)
    Path("videos/x.mp4").rename(Path("videos") / name)
    (found,) = find_clips(Path("videos")).values()
    path = found.views[""]
    assert isinstance(path, Path) and read_video(path)[0].shape == (2, 3, 16, 16)
    assert not Path(CANARY).exists()


@pytest.mark.parametrize(
    "text",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile '{}'\n"],
    ids=["playlist", "list of files"],
)
def test_a_video_does_not_open_other_files(place, text):
    write_video(Path("../secret.mp4"), torch.zeros(2, 3, 16, 16), 8.0)
    Path("x.mp4").write_text(text.format(Path("../secret.mp4").resolve()))
    with pytest.raises(DataError, match=r"x\.mp4"):
        read_video(Path("x.mp4"))
