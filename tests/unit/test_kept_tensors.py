"""Tensors that are kept for later processes are those that were made; damage and full folders are not noticed."""

import os
import subprocess
import sys

import torch

from components.bodies import anny
from hvg.core.kept_tensors import KeptTensors, kept_folder


class Maker:
    """Makes a tensor and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        self.count += 1
        return {"x": torch.arange(6.0).view(2, 3).T / 3, "n": torch.tensor(self.count)}


def kept(folder, *more, most=4):
    return KeptTensors(folder, "hvg.geometry.rotations", *more, most=most)


def test_what_was_made_once_is_read(tmp_path):
    make = Maker()
    first, again = (kept(tmp_path / "new").get(["shape", 0.5], make) for _ in range(2))
    assert make.count == 1
    assert torch.equal(first["x"], again["x"]) and first["n"] == again["n"] == 1
    assert kept(tmp_path / "new").get(["shape", 0.25], make)["n"] == 2
    assert kept(tmp_path / "new", "another version").get(["shape", 0.5], make)["n"] == 3


def test_a_damaged_file_is_made_anew(tmp_path):
    make = Maker()
    kept(tmp_path).get("a", make)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    assert kept(tmp_path).get("a", make)["n"] == 2
    assert kept(tmp_path).get("a", make)["n"] == 2


def test_a_full_folder_and_none_keep_nothing_more(tmp_path):
    make = Maker()
    for name in range(6):
        kept(tmp_path, most=4).get(name, make)
    assert len(list(tmp_path.iterdir())) == 4
    before = make.count
    kept(None).get(0, make)
    assert make.count == before + 1 and len(list(tmp_path.iterdir())) == 4


def test_files_of_other_code_give_way_the_oldest_first_and_nobody_elses(tmp_path):
    make, old, new = Maker(), kept(tmp_path, "old", most=3), kept(tmp_path, "new", most=3)
    (tmp_path / "mine.safetensors").write_text("somebody's")
    for age, name in enumerate("abc"):
        before = set(tmp_path.iterdir())
        old.get(name, make)
        (file,) = set(tmp_path.iterdir()) - before
        os.utime(file, (1000 - age, 1000 - age))
    for name in "de":
        new.get(name, make)
    assert len(list(tmp_path.iterdir())) == 4 and (tmp_path / "mine.safetensors").is_file()
    before = make.count
    old.get("a", make)
    new.get("d", make)
    new.get("e", make)
    assert make.count == before
    # "c" and "b", the oldest, made room; they are made anew.
    old.get("b", make)
    assert make.count == before + 1


def test_a_folder_that_cannot_be_made_is_not_missed(tmp_path):
    (tmp_path / "file").write_text("")
    assert kept(tmp_path / "file").get("a", Maker())["n"] == 1


def test_an_empty_variable_names_no_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HVG_BODIES", "")
    assert kept_folder("HVG_BODIES", "~/x") is None
    monkeypatch.setenv("HVG_BODIES", str(tmp_path))
    assert kept_folder("HVG_BODIES", "~/x") == tmp_path


def test_annys_bodies_are_the_same_bits_read_as_made_and_need_no_network(tmp_path):
    code = (
        "import hashlib, sys, torch\n"
        "from components.bodies.anny import Anny\n"
        "from hvg.geometry.motion import Motion\n"
        "motion = Motion(rotations={'left_elbow': torch.tensor([[0.0, -0.7, 0.2]])})\n"
        "body = Anny().animate(motion, {'height': 0.3})\n"
        "parts = [body.joints, body.bone_radii, *body.parameters.values(), body.vertices, body.faces]\n"
        "parts += [body.skinning.vertex_weights, body.skinning.transforms]\n"
        "print(hashlib.sha256(b''.join(x.numpy().tobytes() for x in parts)).hexdigest(), 'anny' in sys.modules)\n"
    )

    def run(folder) -> list[str]:
        environment = {**os.environ, "HVG_BODIES": str(folder), "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        return done.stdout.split()

    made, read = (run(tmp_path / "bodies") for _ in range(2))
    assert (made[1], read[1]) == ("True", "False")
    assert made[0] == read[0] == run("")[0]


def test_the_first_use_of_annys_body_on_a_machine_is_said(tmp_path):
    """Stopped as soon as it says so, for reading it takes minutes."""
    code = "import anny\nanny.Anny = lambda **_: exit(3)\nfrom components.bodies.anny import _model\n_model()"
    environment = {**os.environ, "ANNY_CACHE_DIR": str(tmp_path / "new"), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 3
    assert (
        done.stderr == f"note: Anny's body is read for the first time, for minutes; 0.8 GB are kept in {tmp_path}/new\n"
    )


def test_people_on_the_way_to_a_height_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(anny, "_kept", lambda: kept(tmp_path / "bodies", most=100))
    anny.Anny().of_stature({"weight": 0.41}, 1.7)
    # The mesh's faces and weights may be, once.
    assert not (tmp_path / "bodies").is_dir() or len(list((tmp_path / "bodies").iterdir())) == 1
