"""Test data that are others on purpose than those of training: what may be said, and what is recorded of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from hvg.config.composition import compose
from hvg.core.errors import ConfigError
from hvg.data.shard_writing import write_shard
from hvg.score.evaluation import _rescored, _shift
from hvg.score.evaluation_record import RECORD_FORMAT, EvaluationRecord, data_notes
from hvg.testing import tiny_batch

TRAINED = compose(["scale=cpu"])
MODEL = Path("model.ckpt")


def test_the_dataset_stays_what_it_was_unless_a_word_says_otherwise():
    words = ["dataset.framing_jitter=0.2"]
    with pytest.raises(ConfigError, match=r"dataset: cannot change after training.*shift=true"):
        _rescored(TRAINED, words, MODEL, shift=False)
    shifted = _rescored(TRAINED, words, MODEL, shift=True)
    assert shifted.dataset.config == TRAINED.dataset.config.model_copy(update={"framing_jitter": 0.2})
    assert _shift(TRAINED, shifted) == {"dataset.framing_jitter": [0.0, 0.2]}
    assert _shift(TRAINED, _rescored(TRAINED, ["evaluation.steps=3"], MODEL, shift=True)) == {}
    for key in ("pose=skeleton", "training.steps=3", "body.scale=2"):
        with pytest.raises(ConfigError, match="cannot change after training"):
            _rescored(TRAINED, [key], MODEL, shift=True)


def test_bodies_can_be_observed_otherwise_than_in_training():
    with pytest.raises(ConfigError, match=r"fit: cannot change after training.*shift=true"):
        _rescored(TRAINED, ["fit=mild"], MODEL, shift=False)
    shifted = _rescored(TRAINED, ["fit=mild", "fit.seed=3"], MODEL, shift=True)
    assert shifted.fit == compose(["scale=cpu", "fit=mild", "fit.seed=3"]).fit
    assert _shift(TRAINED, shifted) == {"fit": ["none", "errors"]}
    assert _shift(shifted, _rescored(shifted, ["fit.seed=4"], MODEL, shift=True)) == {"fit.seed": [3, 4]}


def test_a_shift_is_judged_like_any_setting():
    with pytest.raises(ConfigError, match="Did you mean 'framing_jitter'"):
        _rescored(TRAINED, ["dataset.framing_jiter=0.2"], MODEL, shift=True)
    with pytest.raises(ConfigError, match=r"dataset\.image_size: 60 is not divisible by 8"):
        _rescored(TRAINED, ["dataset.image_size=60"], MODEL, shift=True)
    # Steps are past drawing their views and frames from it.
    fewer = _rescored(TRAINED, ["dataset.views=1", "dataset.frames=1"], MODEL, shift=True)
    assert fewer.dataset.config.views < fewer.data.views


def test_another_dataset_is_recorded_whole(tmp_path):
    write_shard(tmp_path / "test-0.tar", [replace(tiny_batch(1, 4, 4, 64), caption=None)], part=(0, 1))
    shifted = _rescored(TRAINED, ["dataset=shards", f"dataset.path={tmp_path}"], MODEL, shift=True)
    shift = _shift(TRAINED, shifted)
    assert shift == {"dataset": [TRAINED.dataset.resolved(), shifted.dataset.resolved()]}
    record = EvaluationRecord(
        format=RECORD_FORMAT,
        scored="",
        protocol={"id": "", "settings": {}},
        seeds={"training": 0, "sampling": 0},
        clips=[],
        values={},
        provenance={},
        shift=shift,
    )
    (note,) = data_notes(record)
    assert f'"path": "{tmp_path}"' in note and note.startswith(
        "scored on other data than those of training, on purpose"
    )
