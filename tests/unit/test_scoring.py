"""A protocol at work: what is said of a metric that has no value, and what is left on disk."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed

from hvg.config.composition import compose
from hvg.config.sections import ProtocolConfig
from hvg.config.settings import PartChoice
from hvg.core.errors import DataError, HvgError
from hvg.parts.metric import Measurement, Metric, Score
from hvg.parts.part import PartConfig
from hvg.score.evaluation import make_record, protocol_record, table_lines
from hvg.score.evaluation_record import ClipRecord, failed_metrics, read_measurements, read_record, write_record
from hvg.score.measured_clips import Evaluation, MeasuredClip, finished, save_predictions
from hvg.score.protocol import Protocol, gathered, over_angle, over_time
from hvg.values.body import BodyMotion
from hvg.values.cameras import Cameras
from hvg.values.clip import ClipBatch, Reference
from hvg.values.scored_clip import NotAvailable, ScoredClip, Surface, scored_clips

SIZE = 12


def clip(name: str = "a", views: int = 2, frames: int = 3, **fields) -> ScoredClip:
    random = torch.Generator().manual_seed(len(name) + 100 * views + frames + sum(map(ord, name)))
    shape = (views, frames, 3, SIZE, SIZE)
    made, truth = (torch.randint(0, 256, shape, generator=random, dtype=torch.uint8) for _ in range(2))
    valid = torch.ones(views, frames, dtype=torch.bool)
    return ScoredClip(**{"clip_id": name, "subject": name, "prediction": made, "truth": truth, "valid": valid} | fields)


# Mistakes in a metric's code: in measure, and in reduce.
MISTAKES: dict[str, Any] = {
    "failed with AttributeError: 'ScoredClip' object has no attribute 'picture'": lambda clip: clip.picture,
    "failed with AttributeError: 'NoneType' object has no attribute 'items'": lambda clip: None,
    "failed with TypeError: measure gave 'name' of type <U1, expected an array of numbers": lambda clip: {"name": "a"},
    "failed with HvgError: the network gave nothing": lambda clip: fail("the network\ngave nothing"),
}
WRONG_SCORES: dict[str, Any] = {
    "failed with KeyError: 'cell'": lambda kept: kept["a"]["cell"],
    "failed with AttributeError: 'float' object has no attribute 'cells'": lambda kept: 0.5,
    "failed with TypeError: float() argument must be a string or a real number, not 'dict'": lambda kept: Score(
        **{"value": {}, "count": 1}
    ),
    "failed with ValueError: reduce gave cells of clip 'a' that are not (V, T)": lambda kept: Score(
        value=0.5, count=1, cells={"a": np.ones(3)}
    ),
}


def fail(message: str):
    raise HvgError(message)


class Brightness(Metric):
    """Mean of the prediction; fails where it is told to."""

    definition = "brightness/v1"
    unit = "u"

    def __init__(self, fails: str = "", value: float | None = None) -> None:
        self.fails, self.value = fails, value

    def measure(self, clip: ScoredClip) -> Measurement:
        if self.fails == "measure" or self.fails == clip.clip_id:
            raise NotAvailable(f"cannot look at clip '{clip.clip_id}'")
        if self.fails in MISTAKES:
            return MISTAKES[self.fails](clip)
        if self.fails == "all empty" or self.fails == f"{clip.clip_id} is empty":
            return {}
        return {
            "cells": clip.prediction.double().mean(dim=(2, 3, 4)).numpy(),
            "deep/scalar": np.asarray(len(clip.subject)),
        }

    def reduce(self, kept: Mapping[str, Measurement]) -> Score:
        if self.fails == "reduce":
            raise NotAvailable("2 clips are needed")
        if self.fails in WRONG_SCORES:
            return WRONG_SCORES[self.fails](kept)
        cells = {clip_id: arrays["cells"] for clip_id, arrays in kept.items()}
        value = float(np.mean([array.mean() for array in cells.values()])) if self.value is None else self.value
        return Score(
            value=value,
            count=sum(array.size for array in cells.values()),
            per_clip={clip_id: float(array.mean()) for clip_id, array in cells.items()},
            cells=cells,
            notes=("one note",),
        )


def protocol(
    unavailable: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None, **metrics: Metric
):
    """A protocol of ready metrics by label."""
    labels = [*(unavailable or {}), *metrics]
    choices = {label: PartChoice("metric", "brightness", Brightness, PartConfig()) for label in labels}
    config = ProtocolConfig(name="mine", metrics=choices, **settings or {})
    return Protocol(config, metrics, unavailable or {})


def evaluate(scored: Protocol, *clips: ScoredClip) -> Evaluation:
    described = [ClipRecord(clip_id=c.clip_id, subject=c.subject, azimuths=[0.0, 90.0]) for c in clips]
    return finished(scored, {i: MeasuredClip(described[i], scored.measure(c)) for i, c in enumerate(clips)})


def record_of(evaluation: Evaluation, config: ProtocolConfig):
    return make_record(evaluation, config, "tests", 1, 2)


# --- metrics without a value ---


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (None, "needs the file net.pth"),
        (Brightness("measure"), "cannot look at clip 'a'"),
        (Brightness("bb"), "cannot look at clip 'bb' (1 of 2 clips)"),
        (Brightness("all empty"), "no clip has anything to score: too few views or frames"),
        (Brightness("reduce"), "2 clips are needed"),
        (Brightness(value=math.nan), "the value is nan"),
        (Brightness(value=math.inf), "the value is inf"),
    ],
)
def test_a_metric_without_a_value_is_reported_with_the_reason(metric, reason, tmp_path):
    broken = {} if metric is None else {"broken": metric}
    scored = protocol({"broken": "needs the file net.pth"} if metric is None else None, **broken, fine=Brightness())
    evaluation = evaluate(scored, clip("a"), clip("bb"))
    record = record_of(evaluation, scored.settings)
    path = write_record(tmp_path, record, evaluation.measurements)
    for values in (record["values"], read_record(path)["values"]):
        assert list(values) == ["broken", "fine"]
        assert values["broken"]["value"] is None
        assert values["broken"]["unavailable"] == reason
        assert values["broken"]["definition"] == ("brightness" if metric is None else "brightness/v1")
        assert values["fine"]["value"] is not None and values["fine"]["unavailable"] is None
    line = next(line for line in table_lines(record) if line.startswith("broken"))
    assert f"not available: {reason}" in line and "0.0" not in line


@pytest.mark.parametrize("reason", [*MISTAKES, *WRONG_SCORES])
def test_an_error_in_a_metrics_code_takes_no_other_number_away(reason, tmp_path):
    scored = protocol(broken=Brightness(reason), fine=Brightness())
    evaluation = evaluate(scored, clip("a"), clip("bb"))
    record = record_of(evaluation, scored.settings)
    stored = read_record(write_record(tmp_path, record, evaluation.measurements))["values"]
    assert stored["broken"]["value"] is None and stored["broken"]["unavailable"] == reason
    assert stored["fine"]["value"] is not None and "traceback" not in stored["fine"]
    assert any("hvg/score/protocol.py" in line for line in stored["broken"]["traceback"])
    assert failed_metrics(record) == [f"metric broken: {reason} (traceback: values.broken in results.json)"]
    line = next(line for line in table_lines(record) if line.startswith("broken"))
    assert f"not available: {reason}" in line


def test_a_number_of_numpys_is_written_like_any_other(tmp_path):
    class Narrow(Brightness):
        def reduce(self, kept):
            return Score(value=np.float32(0.5), count=np.int64(3), per_clip={"a": np.float32(0.5)})

    scored = protocol(narrow=Narrow())
    evaluation = evaluate(scored, clip("a"))
    record = record_of(evaluation, scored.settings)
    stored = read_record(write_record(tmp_path, record, evaluation.measurements))["values"]["narrow"]
    assert (stored["value"], stored["count"], stored["per_clip"]) == (0.5, 3, {"a": 0.5})


def test_what_is_kept_holds_on_to_no_tensor():
    # Otherwise memory grows by megabytes a clip, though only numbers are kept.
    kept = protocol(fine=Brightness()).measure(clip())["fine"]
    assert isinstance(kept, Mapping)
    assert all(array.base is None and array.flags.owndata for array in kept.values())


def test_clips_with_nothing_to_score_are_noted():
    values = evaluate(protocol(fine=Brightness("bb is empty")), clip("a"), clip("bb")).values
    assert values["fine"]["notes"] == ["one note", "1 of 2 clips have nothing to score"]
    assert list(values["fine"]["per_clip"]) == ["a"]


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(NotAvailable, match="no clip was measured"):
        evaluate(protocol(fine=Brightness()))


def test_two_clips_of_one_name_are_refused():
    with pytest.raises(DataError, match="two clips are named 'a'"):
        evaluate(protocol(fine=Brightness()), clip("a"), clip("a", frames=2))


def test_a_missing_field_is_named():
    with pytest.raises(NotAvailable, match="needs alpha, cameras, which clip 'a' does not hold"):
        clip().require({"alpha", "cameras"})


# --- what is done to pictures before ---


def test_mask_lays_both_videos_on_white():
    alpha = torch.zeros(2, 3, SIZE, SIZE)
    alpha[..., :6] = 1
    alpha[..., 6] = 0.5
    given = clip(alpha=alpha)
    scored = protocol(settings={"mask": "truth"}, fine=Brightness())
    seen = scored.prepare(given)
    for before, after in ((given.prediction, seen.prediction), (given.truth, seen.truth)):
        assert torch.equal(after[..., :6], before[..., :6])
        assert torch.equal(after[..., 6].float(), (before[..., 6] * 0.5 + 127.5).round())
        assert (after[..., 7:] == 255).all()
    with pytest.raises(NotAvailable, match="needs alpha"):
        scored.measure(clip())


def test_another_size_is_refused_or_resized():
    small = torch.full((2, 3, 3, 6, 6), 7, dtype=torch.uint8)
    with pytest.raises(DataError, match="the prediction is 6 x 6 pixels, the reference 12 x 12"):
        protocol(fine=Brightness()).measure(clip(prediction=small))
    kept = protocol(settings={"size_mismatch": "resize"}, fine=Brightness()).measure(clip(prediction=small))
    assert isinstance(kept["fine"], Mapping) and (kept["fine"]["cells"] == 7).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prediction": torch.zeros(2, 3, 3, SIZE, SIZE)}, "prediction has to be .* uint8"),
        ({"truth": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)}, "truth has to be"),
        (
            {"prediction": torch.zeros(2, 2, 3, SIZE, SIZE, dtype=torch.uint8)},
            r"\(V, T\) = \(2, 2\), the truth \(2, 3\)",
        ),
    ],
)
def test_frames_of_another_kind_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        clip(**fields)


def test_the_surface_is_made_once_and_when_asked():
    made = []

    def surface() -> Surface:
        made.append(1)
        return Surface(depth=torch.zeros(2, 3, SIZE, SIZE))

    given = clip().with_surface(surface)
    moved = replace(given.to("cpu"), subject="other")
    assert not made
    assert moved.surface is not None and moved.surface() is moved.surface()
    assert len(made) == 1


def test_everything_moves_to_the_device():
    cameras = Cameras(
        world_to_camera=torch.eye(4).expand(2, 3, 4, 4),
        intrinsics=torch.eye(3).expand(2, 3, 3, 3),
        image_size=(SIZE, SIZE),
    )
    given = clip(
        alpha=torch.zeros(2, 3, SIZE, SIZE),
        cameras=cameras,
        body=BodyMotion(joints=torch.zeros(1, 3, 1, 3), joint_names=("pelvis",), parameters={"x": torch.zeros(1, 3)}),
        reference=Reference(frames=torch.zeros(1, 1, 3, SIZE, SIZE), cameras=cameras),
        surface=lambda: Surface(depth=torch.zeros(2, 3, SIZE, SIZE)),
    ).to("meta")
    assert given.body is not None and given.reference is not None and given.reference.cameras is not None
    assert given.surface is not None and given.alpha is not None
    for tensor in (
        *(given.prediction, given.truth, given.valid, given.alpha, given.body.joints, given.body.parameters["x"]),
        *(given.reference.frames, given.reference.cameras.intrinsics, given.surface().depth),
    ):
        assert tensor.device.type == "meta"


def test_a_batch_without_true_frames_cannot_be_scored():
    cameras = Cameras(
        world_to_camera=torch.eye(4).expand(1, 1, 1, 4, 4),
        intrinsics=torch.eye(3).expand(1, 1, 1, 3, 3),
        image_size=(SIZE, SIZE),
    )
    batch = ClipBatch(cameras=cameras, clip_id=("a",), subject=("a",))
    with pytest.raises(NotAvailable, match="'a' holds no true frames"):
        scored_clips(batch, torch.zeros(1, 1, 1, 3, SIZE, SIZE, dtype=torch.uint8))


# --- order, ranks ---


def test_scores_do_not_depend_on_the_order_in_which_clips_are_measured():
    scored = protocol(fine=Brightness())
    clips = [clip(name) for name in ("a", "bb", "ccc")]
    entries = {
        i: MeasuredClip(ClipRecord(clip_id=c.clip_id, subject=c.subject, azimuths=None), scored.measure(c))
        for i, c in enumerate(clips)
    }
    forward, backward = (finished(scored, dict(order)) for order in (entries.items(), reversed(entries.items())))
    assert forward.values == backward.values
    assert list(forward.measurements) == list(backward.measurements) == ["a", "bb", "ccc"]


def test_ranks_gather_what_each_of_them_holds(monkeypatch):
    assert gathered({3: "c"}) == {3: "c"}

    def all_gather(parts: list, own: dict) -> None:
        parts[:] = [{1: "b"}, own]

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "all_gather_object", all_gather)
    assert gathered({0: "a"}) == {0: "a", 1: "b"}


# --- curves ---


def test_over_time_is_the_mean_of_every_frame_that_has_a_value():
    cells = {"a": np.array([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]]), "b": np.array([[5.0]])}
    assert over_time(Score(value=0, count=0, cells=cells)) == [3.0, 2.0, None]
    assert over_time(Score(value=0, count=0)) == []


def test_over_angle_gathers_views_by_their_angle_to_the_photo():
    cells = {"a": np.array([[1.0, 3.0], [10.0, np.nan], [30.0, 30.0]]), "b": np.array([[7.0]]), "c": np.array([[99.0]])}
    azimuths = {"a": [-5.0, 175.0, -170.0], "b": [365.0], "c": None}
    pairs = over_angle(Score(value=0, count=0, cells=cells), azimuths)
    # 5 degrees to the left and to the right; the back from both sides.
    assert pairs == [(5.0, pytest.approx(11 / 3)), (pytest.approx((175 + 170 * 2) / 3), pytest.approx(70 / 3))]


# --- on disk ---


def test_a_record_comes_back(tmp_path):
    scored = protocol({"gone": "needs a file"}, **{"first": Brightness(), "first-2": Brightness("bb is empty")})
    evaluation = evaluate(scored, clip("a"), clip("bb"), clip("person/ccc"))
    record = record_of(evaluation, scored.settings)
    record["values"]["first"]["per_clip"]["a"] = math.inf
    path = write_record(tmp_path / "out", record, evaluation.measurements)
    assert sorted(file.name for file in path.parent.iterdir()) == ["measurements.safetensors", "results.json"]
    read = read_record(path.parent)
    assert read == read_record(path)
    assert read["values"]["first"]["per_clip"]["a"] is None
    read["values"]["first"]["per_clip"]["a"] = math.inf
    assert read == json.loads(json.dumps(record))
    for label in ("first", "first-2"):
        found = read_measurements(path, read, label)
        kept = {name: of[label] for name, of in evaluation.measurements.items() if of[label]}
        assert list(found) == list(kept)
        for name, arrays in kept.items():
            assert isinstance(arrays, Mapping) and found[name].keys() == arrays.keys()
            for key, array in arrays.items():
                assert np.array_equal(found[name][key], array) and found[name][key].dtype == array.dtype
                assert found[name][key].shape == array.shape
    assert read_measurements(path, read, "gone") == {}


def test_nothing_measured_leaves_a_whole_record(tmp_path):
    scored = protocol({"gone": "needs a file"})
    evaluation = evaluate(scored, clip("a"))
    path = write_record(tmp_path, record_of(evaluation, scored.settings), evaluation.measurements)
    assert read_record(path)["values"]["gone"]["unavailable"] == "needs a file"
    assert read_measurements(path, read_record(path), "gone") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file, which an evaluation writes; next: `hvg evaluate checkpoint=RUN`"),
        ("", "cannot be read"),
        ('{"format": "hvg-evaluation-2", "cl', "cannot be read"),
        ("[]", "not the results of an evaluation"),
        ('{"format": "hvg-evaluation-1"}', "not the results of an evaluation (format hvg-evaluation-2)"),
        (
            '{"format": "hvg-evaluation-2", "clips": []}',
            "damaged, it lacks scored, protocol, seeds, values, provenance",
        ),
    ],
)
def test_damaged_results_are_one_clear_line(tmp_path, text, message):
    path = tmp_path / "results.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(HvgError) as caught:
        read_record(tmp_path)
    assert str(path) in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["missing", "empty", "cut", "other"])
def test_damaged_measurements_are_one_clear_line(tmp_path, fault):
    scored = protocol(fine=Brightness())
    evaluation = evaluate(scored, clip("a"), clip("bb"))
    record = record_of(evaluation, scored.settings)
    path = write_record(tmp_path, record, evaluation.measurements)
    stored = tmp_path / "measurements.safetensors"
    if fault == "missing":
        stored.unlink()
    elif fault == "empty":
        stored.write_bytes(b"")
    elif fault == "cut":
        stored.write_bytes(stored.read_bytes()[:-10])
    else:
        record["clips"] = record["clips"][:1]
    with pytest.raises(HvgError) as caught:
        read_measurements(path, record, "fine")
    assert str(stored) in str(caught.value) and "\n" not in str(caught.value)


def test_predictions_of_clips_with_slashes_have_a_place(tmp_path):
    cameras = Cameras(
        world_to_camera=torch.eye(4).expand(1, 1, 1, 4, 4),
        intrinsics=torch.eye(3).expand(1, 1, 1, 3, 3),
        image_size=(SIZE, SIZE),
    )
    batch = ClipBatch(cameras=cameras, clip_id=("person/walk",), subject=("person",))
    save_predictions(tmp_path, batch, torch.zeros(1, 1, 1, 3, SIZE, SIZE, dtype=torch.uint8))
    assert (tmp_path / "person" / "walk.npy").is_file()


# --- a protocol's name ---


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "basic/v2"),
        (["protocol.source=me"], "basic/v2"),
        (["protocol.metrics.psnr.average=frames"], "basic/v2+changes"),
        (["~protocol.metrics.psnr"], "basic/v2+changes"),
        (["protocol.metrics.more.name=l1"], "basic/v2+changes"),
        (["protocol.mask=truth"], "basic/v2+changes"),
        (["protocol.version=3"], "basic/v3+changes"),
        (["protocol.name=mine"], "mine/v2+changes"),
    ],
)
def test_changed_settings_show_in_the_protocols_name(overrides, name):
    record = protocol_record(compose(overrides).protocol)
    assert record["id"] == name
    json.dumps(record)


class Counted(Brightness):
    """Counts how often it measures."""

    def __init__(self, measurement: str | None) -> None:
        super().__init__()
        self.measurement, self.calls = measurement, 0

    def measure(self, clip: ScoredClip) -> Measurement:
        self.calls += 1
        return super().measure(clip)


def test_metrics_that_keep_the_same_measure_once():
    metrics = {"fvd": Counted("i3d"), "kvd": Counted("i3d"), "fid": Counted("inception"), "own": Counted(None)}
    values = evaluate(protocol(**metrics), clip("a"), clip("b")).values
    assert [metric.calls for metric in metrics.values()] == [2, 0, 2, 2]
    found = {score["value"] for score in values.values()}
    assert len(found) == 1 and None not in found
