"""Body models leave their pickles unharmed, and nothing that a pickle asks for happens."""

import io
import os
import pickle
import pickletools
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from hvg.cli import run
from hvg.commands import convert
from hvg.config.command_options import ConvertOptions
from hvg.core.errors import DataError
from hvg.geometry import body_pickle

JOINTS, VERTICES, SHAPES = 4, 6, 3
# What is written under its own name here, and under its true one in the file.
RENAMED = {b"numpy._core.multiarray": b"numpy.core.multiarray", b"copyreg": b"copy_reg", b"builtins": b"__builtin__"}


class Ch:
    """Stands for chumpy.ch.Ch: chumpy's values are pickled by their attributes."""

    def __init__(self, x: np.ndarray) -> None:
        self.x, self._dirty_vars, self._itr = x, {1}, None


class Select:
    """Stands for chumpy.reordering.Select."""

    def __init__(self, a: Ch, idxs: np.ndarray, preferred_shape: tuple[int, ...]) -> None:
        self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape


class Sparse:
    """Stands for a compressed sparse matrix of SciPy; kind: csc or csr."""

    def __init__(self, dense: np.ndarray, kind: str) -> None:
        lines = dense if kind == "csr" else dense.T
        self._shape, self.maxprint, self.kind = dense.shape, 50, kind
        self.data = lines[lines != 0]
        self.indices = np.nonzero(lines)[1].astype(np.int32)
        self.indptr = np.concatenate([[0], np.cumsum((lines != 0).sum(1))]).astype(np.int32)


class Csc(Sparse):
    pass


class Csr(Sparse):
    pass


NAMES = {
    Ch: b"chumpy.ch\nCh",
    Select: b"chumpy.reordering\nSelect",
    Csc: b"scipy.sparse.csc\ncsc_matrix",
    Csr: b"scipy.sparse.csr\ncsr_matrix",
}


class Python2Pickler(pickle._Pickler):
    """Text and bytes are one thing, as in the files of SMPL: the bytes of an array come back as text in Latin-1."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_text(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin-1")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(value: Any, protocol: int = 2, python: int = 2) -> bytes:
    """A pickle in the true layout."""
    if python == 2:
        stream = io.BytesIO()
        Python2Pickler(stream, protocol).dump(value)
        data = stream.getvalue()
    else:
        data = pickle.dumps(value, protocol)
    if protocol <= 2:
        for cls, name in NAMES.items():
            data = data.replace(f"c{__name__}\n{cls.__qualname__}\n".encode(), b"c" + name + b"\n")
        for new, old in RENAMED.items():
            data = data.replace(b"c" + new + b"\n", b"c" + old + b"\n")
    return data


def model() -> dict[str, np.ndarray]:
    """The arrays of a tiny SMPL."""
    generator = np.random.default_rng(0)
    regressor = generator.random((JOINTS, VERTICES)) * (generator.random((JOINTS, VERTICES)) > 0.6)
    return {
        "v_template": generator.normal(size=(VERTICES, 3)),
        "f": np.array([[0, 1, 2], [3, 4, 5]], np.uint32),
        "J_regressor": regressor,
        "weights": generator.random((VERTICES, JOINTS)),
        "posedirs": np.asfortranarray(generator.normal(size=(VERTICES, 3, 9 * (JOINTS - 1)))),
        "shapedirs": generator.normal(size=(VERTICES, 3, SHAPES)),
        "kintree_table": np.array([[4294967295, 0, 0, 1], [0, 1, 2, 3]], np.int64),
        "J": generator.normal(size=(JOINTS, 3)).astype(">f4"),
    }


def as_published(arrays: dict[str, np.ndarray], sparse: type[Sparse] = Csc) -> dict[str, Any]:
    """The entries of a body model as its authors pickled them: 10 of more shape directions chosen by chumpy, and so on."""
    more = np.concatenate([arrays["shapedirs"], np.ones((VERTICES, 3, 2))], axis=2)
    chosen = np.arange(more.size).reshape(more.shape)[..., :SHAPES].ravel()
    return {
        **arrays,
        "J_regressor": sparse(arrays["J_regressor"], sparse.__name__.lower()),
        "weights": Ch(arrays["weights"]),
        "shapedirs": Select(Ch(more), chosen, arrays["shapedirs"].shape),
        "bs_type": "lrotmin",
        "num_betas": np.float64(10.0),
        "names": ["pelvis", "left_hip"],
        "objects": np.array([{"a": 1}, None], dtype=object),
        "training": {"sigma": 0.1},
    }


def equal(found: Any, arrays: dict[str, np.ndarray]) -> None:
    """The converted file holds these arrays, and numbers and texts beside them."""
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    assert str(found["bs_type"]) == "lrotmin" and float(found["num_betas"]) == 10
    assert found["names"].tolist() == ["pelvis", "left_hip"]


@pytest.mark.parametrize("sparse", [Csc, Csr])
@pytest.mark.parametrize("python", [2, 3])
def test_a_body_model_is_converted(tmp_path, capsys, sparse, python):
    (tmp_path / "SMPL.pkl").write_bytes(pickled(as_published(model(), sparse), python=python))
    assert run(["convert", f"body={tmp_path}/SMPL.pkl", f"out={tmp_path}/SMPL.npz"]) == 0
    assert "left out, for they are no plain arrays: objects, training" in capsys.readouterr().out
    with np.load(tmp_path / "SMPL.npz", allow_pickle=False) as found:
        equal(found, model())
        assert "objects" not in found.files


@pytest.mark.parametrize("protocol", [1, 3, 4, 5])
def test_other_protocols(tmp_path, protocol):
    plain = model() | {"bs_type": "lrotmin", "num_betas": np.float64(10), "names": ("pelvis", "left_hip"), "age": 2**40}
    (tmp_path / "SMPL.pkl").write_bytes(pickled(plain, protocol, python=3))
    arrays, left_out = body_pickle.read_body_model(tmp_path / "SMPL.pkl")
    equal(arrays, model())
    assert int(arrays["age"]) == 2**40 and not left_out


def test_an_older_file_is_not_replaced(tmp_path, capsys):
    (tmp_path / "SMPL.pkl").write_bytes(pickled(as_published(model())))
    (tmp_path / "SMPL.npz").write_text("mine")
    for out, message in (("SMPL.npz", "exists already"), ("SMPL.pkl", "give the name of an .npz"), ("", "out")):
        assert run(["convert", f"body={tmp_path}/SMPL.pkl", f"out={tmp_path}/{out}"]) == 1
        assert message in capsys.readouterr().err
    assert (tmp_path / "SMPL.npz").read_text() == "mine"


# --- what is refused ---


class Calls:
    """Pickled as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self):
        return self.call


def commands(canary) -> dict[str, bytes]:
    """Pickles that would make the canary, or go round a list of names."""
    text = f"open({str(canary)!r}, 'w')"
    touch = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    return {
        "posix.system": pickle.dumps({"v_template": Calls(os.system, (f"touch {canary}",))}),
        "os.system": touch,
        "builtins.eval": pickle.dumps(Calls(eval, (text,))),
        "builtins.exec": pickle.dumps(Calls(exec, (text,)), 4),
        "builtins.getattr": pickle.dumps(Calls(getattr, ("x", "upper"))),
        "numpy.load": b"cnumpy\nload\n(S'/etc/passwd'\ntR.",
        "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "numpy.core.multiarray.fromfile": b"cnumpy.core.multiarray\nfromfile\n(S'/etc/passwd'\ntR.",
        "scipy.sparse._sputils.os": b"cscipy.sparse._sputils\nos\n.",
        "INST": f"(S'touch {canary}'\nios\nsystem\n.".encode(),
        "OBJ": f"(cnumpy\nndarray\nS'touch {canary}'\no.".encode(),
        "PERSID": b"Pos.system\n.",
        "EXT1": b"\x80\x02\x82\x01.",
    }


@pytest.mark.parametrize("case", commands("x"))
def test_nothing_is_called(tmp_path, capsys, case):
    path, canary = tmp_path / "SMPL.pkl", tmp_path / "canary"
    path.write_bytes(commands(canary)[case])
    assert run(["convert", f"body={path}", f"out={tmp_path}/SMPL.npz"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and str(path) in message and case in message
    assert list(tmp_path.iterdir()) == [path]


def test_the_corpus_is_live(tmp_path):
    """What is refused above does happen in a reader that calls."""
    for case in ("posix.system", "os.system", "builtins.eval", "builtins.exec", "INST"):
        pickle.loads(commands(tmp_path / case)[case])
        assert (tmp_path / case).exists()


def whole(**entries: Any) -> dict[str, Any]:
    return as_published(model()) | entries


def damaged() -> dict[str, tuple[bytes, str]]:
    """Pickles that claim what they do not hold, and the message."""
    good = pickled(whole())
    outside = Csc(model()["J_regressor"], "csc")
    outside.indices = outside.indices + 100
    backwards = Csc(model()["J_regressor"], "csc")
    backwards.indptr = backwards.indptr[::-1].copy()
    huge = Csc(np.eye(2), "csc")
    huge._shape = (2**40, 2)
    loop = Ch(np.zeros(3))
    loop.x = loop
    twice = [np.zeros(2)] * 3
    return {
        "cut": (good[: len(good) // 2], "damaged or no pickle"),
        "empty": (b"", "damaged or no pickle"),
        "text": (b"hello", "damaged or no pickle"),
        "html": (b"<!doctype html>", "damaged or no pickle"),
        "underflow": (b"\x80\x02R.", "damaged or no pickle"),
        "no memo": (b"\x80\x02h\x05.", "damaged or no pickle"),
        "huge text": (b"\x80\x02B\xff\xff\xff\x7f.", "damaged or no pickle"),
        "huge memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", "no entries by name"),
        "a list": (pickled([1, 2]), "no entries by name"),
        "no model": (pickled({"a": 1}), "lacks v_template, f, weights, J_regressor, shapedirs"),
        "short array": (pickled(whole()).replace(b"K\x06K\x03\x86", b"K\x07K\x03\x86"), "'v_template' is damaged"),
        "index outside": (pickled(whole(J_regressor=outside)), "'J_regressor' is damaged (its index lies outside)"),
        "index backwards": (pickled(whole(J_regressor=backwards)), "'J_regressor' is damaged (its index does not fit)"),
        "sparse bomb": (pickled(whole(J_regressor=huge)), "too large"),
        "a loop": (pickled(whole(weights=loop)), "lacks weights;"),
        "objects": (pickled(whole(f=np.array([*twice, None], dtype=object))), "lacks f;"),
    }


def test_an_npz_needs_no_conversion(tmp_path):
    np.savez(tmp_path / "SMPL.npz", v_template=np.zeros((1, 3)))
    with pytest.raises(DataError, match=r"SMPL\.npz: is an archive; expected a body model's \.pkl"):
        body_pickle.read_body_model(tmp_path / "SMPL.npz")


@pytest.mark.parametrize("case", damaged())
def test_damage_is_named_in_one_line(tmp_path, case):
    data, message = damaged()[case]
    (tmp_path / "SMPL.pkl").write_bytes(data)
    with pytest.raises(DataError) as error:
        body_pickle.read_body_model(tmp_path / "SMPL.pkl")
    assert message in str(error.value) and "\n" not in str(error.value) and "SMPL.pkl" in str(error.value)


def test_arrays_named_many_times_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(body_pickle, "LARGEST", 2**20)
    large = np.zeros(2**16)
    (tmp_path / "SMPL.pkl").write_bytes(pickled(whole(**{f"again{k}": large for k in range(50)})))
    assert (tmp_path / "SMPL.pkl").stat().st_size < 2**20
    with pytest.raises(DataError, match="take more than"):
        body_pickle.read_body_model(tmp_path / "SMPL.pkl")


def test_names_of_entries_cannot_leave_the_archive(tmp_path):
    arrays = {"../../evil": np.zeros(2), "/evil": np.zeros(2), "file": np.zeros(2), "allow_pickle": np.zeros(2)}
    (tmp_path / "SMPL.pkl").write_bytes(pickled(whole(**arrays)))
    options = ConvertOptions(body=tmp_path / "SMPL.pkl", out=tmp_path / "SMPL.npz")
    assert "../../evil" in list(convert.convert(options))[-1]
    names = zipfile.ZipFile(tmp_path / "SMPL.npz").namelist()
    assert {"file.npy", "allow_pickle.npy"} < set(names) and not any("/" in name for name in names)


def test_the_layout_is_the_true_one():
    """The names that published body models hold are in the files of this test."""
    operations = pickletools.genops(pickled(as_published(model())))
    names = {argument for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert {
        "numpy.core.multiarray _reconstruct",
        "numpy ndarray",
        "numpy dtype",
        "chumpy.ch Ch",
        "chumpy.reordering Select",
        "scipy.sparse.csc csc_matrix",
        "__builtin__ set",
    } <= names
    assert not any(name.startswith(__name__) for name in names)
