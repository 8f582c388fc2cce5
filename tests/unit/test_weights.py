"""Files of pretrained networks: what is accepted, what is refused and how it is said, and that nothing is unpickled."""

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_networks import FILES, as_published, filled, write_network_files
from safetensors.torch import save_file

from components.nn.feature_networks.load import load_lpips, load_network
from hvg.cli import run
from hvg.core.errors import HvgError
from hvg.parts import registry
from hvg.parts.network_files import CATALOGUE, NetworkFiles, default_folder
from hvg.values.scored_clip import NotAvailable

CPU = torch.device("cpu")
SMALL = FILES["squeezenet"][1]
NO_HASH = FILES["i3d"][1]


class Bomb:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_network_files(tmp_path / "networks", ["squeezenet"])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(folder: Path, name: str = "squeezenet", any_file: bool = True) -> str:
    """What is said of a file that cannot be used, one line that names it."""
    files = NetworkFiles(folder, any_file)
    with pytest.raises(HvgError) as caught:
        files.load(name)
    message = str(caught.value)
    assert not isinstance(caught.value, NotAvailable)
    assert message.startswith(f"{files.path(name)}: ") and "\n" not in message
    return message


def test_a_good_file(folder):
    tensors, file_hash = NetworkFiles(folder, any_file=True).load("squeezenet")
    wanted = filled("squeezenet")
    assert tensors.keys() == wanted.keys(), "the classifier is left out"
    assert all(torch.equal(tensors[key], wanted[key]) for key in wanted)
    assert file_hash == f"sha256:{sha256(folder / SMALL)}"


def test_another_file_than_the_published_one_is_refused_unless_wanted(folder):
    message = refusal(folder, any_file=False)
    assert "evaluation.any_network=true" in message
    assert sha256(folder / SMALL)[:16] in message and "b8a52dc049b60e4b" in message


@pytest.mark.parametrize("digits", [64, 8])
def test_the_published_file_is_accepted(folder, monkeypatch, digits):
    published = replace(CATALOGUE["squeezenet"], files={SMALL: sha256(folder / SMALL)[:digits]})
    monkeypatch.setitem(CATALOGUE, "squeezenet", published)
    tensors, _ = NetworkFiles(folder).load("squeezenet")
    assert tensors.keys() == filled("squeezenet").keys()


def test_an_older_save_stands_in_where_the_newer_one_is_missing(folder):
    older = folder / "squeezenet1_1-f364aa15.pth"
    (folder / SMALL).rename(older)
    assert NetworkFiles(folder).path("squeezenet") == older
    assert "f364aa15" in refusal(folder, any_file=False)


def test_a_missing_file_is_not_available(tmp_path):
    with pytest.raises(NotAvailable) as caught:
        NetworkFiles(tmp_path).load("squeezenet")
    message = str(caught.value)
    assert SMALL in message and str(tmp_path) in message and "hvg weights" in message


def test_a_conversion_is_read_first(folder):
    conversion = (folder / SMALL).with_suffix(".safetensors")
    save_file(filled("squeezenet"), conversion)
    (folder / SMALL).write_text("not read")
    # No hash is published for what users convert themselves.
    tensors, file_hash = NetworkFiles(folder).load("squeezenet")
    assert tensors.keys() == filled("squeezenet").keys()
    assert file_hash == f"sha256:{sha256(conversion)}"
    conversion.write_bytes(conversion.read_bytes()[:-100])
    assert "cut short" in refusal(folder)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        (b"Too many users have viewed or downloaded this file recently.", "not a file of PyTorch"),
        (pickle.dumps({"features.0.bias": [0.0]}), "cannot be read"),
        (b"\x80\x02garbage", "cannot be read"),
    ],
    ids=["empty", "web_page", "pointer", "text", "pickle", "garbage"],
)
def test_what_is_no_file_of_weights(folder, content, said):
    (folder / SMALL).write_bytes(content)
    assert said in refusal(folder)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before_1.6"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_a_file_that_is_cut_short(folder, zipped, part):
    torch.save(as_published("squeezenet"), folder / SMALL, _use_new_zipfile_serialization=zipped)
    whole = (folder / SMALL).read_bytes()
    (folder / SMALL).write_bytes(whole[: int(part * len(whole))])
    assert "cut short" in refusal(folder)


def test_a_file_of_an_old_pytorch(folder):
    torch.save(as_published("squeezenet"), folder / SMALL, _use_new_zipfile_serialization=False)
    tensors, _ = NetworkFiles(folder, any_file=True).load("squeezenet")
    assert tensors.keys() == filled("squeezenet").keys()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before_1.6"])
def test_nothing_is_unpickled(folder, tmp_path, zipped):
    trace = tmp_path / "unpickled"
    stored = {"features.0.bias": torch.zeros(64), "more": Bomb(trace)}
    torch.save(stored, folder / SMALL, _use_new_zipfile_serialization=zipped)
    message = refusal(folder)
    assert "posix.mkdir" in message and ".safetensors" in message
    assert not trace.exists()
    torch.load(folder / SMALL, weights_only=False)
    assert trace.exists(), "the bomb works where it is let off"


def test_a_bare_pickle_is_not_unpickled(folder, tmp_path):
    trace = tmp_path / "unpickled"
    (folder / SMALL).write_bytes(pickle.dumps(Bomb(trace)))
    refusal(folder)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (torch.zeros(3), "one Tensor"),
        ([torch.zeros(3)], "one list"),
        ({"features.0.bias": torch.zeros(3), "epoch": 3}, "a int under 'epoch'"),
        ({"features.0.bias": torch.tensor([0.0, float("nan")])}, "features.0.bias"),
        ({"features.0.bias": torch.tensor([0.0, float("inf")])}, "infinite"),
    ],
    ids=["tensor", "list", "number", "nan", "infinity"],
)
def test_what_holds_no_weights(folder, stored, said):
    torch.save(stored, folder / SMALL)
    assert said in refusal(folder)


def without(tensors: dict, key: str) -> dict:
    return {name: value for name, value in tensors.items() if name != key}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: without(tensors, "features.0.bias"), "lacks features.0.bias"),
        (lambda tensors: tensors | {"features.0.more": torch.zeros(3)}, "has features.0.more"),
        (lambda tensors: tensors | {"features.0.bias": torch.zeros(65)}, "features.0.bias is real (65,)"),
        (lambda tensors: tensors | {"features.0.bias": torch.zeros(64, dtype=torch.int64)}, "not real (64,)"),
        (lambda tensors: {}, "and 47 more"),
    ],
    ids=["missing", "unexpected", "misshapen", "integers", "nothing"],
)
def test_weights_of_another_network(folder, change, said):
    torch.save(change(filled("squeezenet")), folder / SMALL)
    with pytest.raises(HvgError) as caught:
        load_lpips("squeeze", NetworkFiles(folder, any_file=True), CPU)
    message = str(caught.value)
    assert message.startswith(f"{folder / SMALL}: ") and said in message and "\n" not in message


def test_half_precision_becomes_single(folder):
    torch.save({key: value.half() for key, value in filled("squeezenet").items()}, folder / SMALL)
    module = load_lpips("squeeze", NetworkFiles(folder, any_file=True), CPU).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_the_hash_of_lpips_names_trunk_and_heads(folder):
    found = load_lpips("squeeze", NetworkFiles(folder, any_file=True), CPU).hash
    assert found.startswith(f"sha256:{sha256(folder / SMALL)} ")
    assert found.endswith("sha256:4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76")


def test_a_file_without_counters_of_batches(tmp_path):
    tensors = filled("i3d")
    kept = {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}
    assert len(kept) < len(tensors)
    torch.save(kept, tmp_path / NO_HASH)
    # No hash is published for this one, so it needs no leave.
    network = load_network("i3d", NetworkFiles(tmp_path), CPU)
    assert torch.equal(
        network.module.get_buffer("Conv3d_1a_7x7.bn.running_var"), tensors["Conv3d_1a_7x7.bn.running_var"]
    )
    assert network.hash == f"sha256:{sha256(tmp_path / NO_HASH)}"


@pytest.mark.parametrize("nested", [True, False])
def test_weights_below_an_entry_and_a_prefix(tmp_path, nested):
    tensors = {"module.conv1.weight": torch.ones(2), "module.fc.bias": torch.zeros(2)}
    torch.save({"epoch": 3, "state_dict": tensors} if nested else tensors, tmp_path / FILES["resnet3d50"][1])
    found, _ = NetworkFiles(tmp_path).load("resnet3d50")
    assert list(found) == ["conv1.weight"]


def test_folders(tmp_path):
    files = NetworkFiles(tmp_path)
    with pytest.raises(NotAvailable, match=r"folder vjepa2 in .*hvg weights"):
        files.path("vjepa2")
    folder = tmp_path / "vjepa2"
    folder.mkdir()
    assert files.path("vjepa2") == folder
    with pytest.raises(HvgError, match=r"holds no \.safetensors"):
        files.hash("vjepa2")
    one, two = folder / "a.safetensors", folder / "b.safetensors"
    save_file({"x": torch.zeros(2)}, one)
    assert files.hash("vjepa2") == f"sha256:{sha256(one)}"
    save_file({"y": torch.zeros(2)}, two)
    both = files.hash("vjepa2")
    assert both not in (f"sha256:{sha256(one)}", f"sha256:{sha256(two)}")
    two.rename(folder / "c.safetensors")
    assert files.hash("vjepa2") != both


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("HVG_NETWORKS", "~/weights")
    assert default_folder() == Path.home() / "weights"
    monkeypatch.delenv("HVG_NETWORKS")
    assert default_folder() == Path.home() / ".cache" / "hvg" / "networks"


def lines_of(capsys) -> dict[str, str]:
    """The lines of the table that `hvg weights` has printed, by the network's name."""
    table = capsys.readouterr().out.split("\n\n")[1]
    return {line.split()[0]: line for line in table.splitlines()}


def test_the_command_lists_what_is_there(folder, monkeypatch, capsys):
    torch.save(filled("alexnet"), folder / "alexnet-owt-7be5be79.pth")
    known = replace(
        CATALOGUE["alexnet"], files={"alexnet-owt-7be5be79.pth": sha256(folder / "alexnet-owt-7be5be79.pth")}
    )
    monkeypatch.setitem(CATALOGUE, "alexnet", known)
    torch.save({"Conv3d_1a_7x7.bn.bias": torch.zeros(64)}, folder / NO_HASH)
    assert run(["weights", f"folder={folder}"]) == 0
    lines = lines_of(capsys)
    assert lines.keys() == {"name", *CATALOGUE}
    assert "another file: sha256:" in lines["squeezenet"]
    assert lines["alexnet"].endswith("yes, hash matches")
    assert lines["i3d"].endswith(f"yes, hash unknown: sha256:{sha256(folder / NO_HASH)}")
    assert lines["vgg16"].endswith("no")


def test_the_command_says_where_to_get_what_is_missing(tmp_path, capsys):
    assert run(["weights", f"folder={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert all(known.source in printed for known in CATALOGUE.values())


def test_the_command_fails_where_something_is_damaged(folder, capsys):
    (folder / NO_HASH).write_text("<html></html>")
    (folder / "clip").mkdir()
    assert run(["weights", f"folder={folder}"]) == 1
    lines = lines_of(capsys)
    assert "DAMAGED" in lines["i3d"] and "web page" in lines["i3d"]
    assert "DAMAGED" in lines["clip"]


def test_the_command_takes_no_other_option(capsys):
    assert run(["weights", "folders=x"]) == 1
    assert "folder" in capsys.readouterr().err


def test_every_network_is_needed_by_metrics_that_there_are():
    needed_by = {name: known.needed_by.split(", ") for name, known in CATALOGUE.items()}
    metrics = registry.names("metric")
    assert not {
        name: words for name, words in needed_by.items() if any(word.split()[0] not in metrics for word in words)
    }


def test_hashes_agree_with_the_names_that_carry_them():
    published = {name: digits for known in CATALOGUE.values() for name, digits in known.files.items() if digits}
    assert len(published) == 6
    for name, digits in published.items():
        assert digits.startswith(Path(name).stem.rpartition("-")[2])
        assert len(digits) in (8, 64) and int(digits, 16)
