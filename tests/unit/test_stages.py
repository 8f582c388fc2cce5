"""Stages of a run: what each may say, what is kept of them, what a continued run may change, and the steps of the order."""

import pytest

from hvg.commands.check import check_command
from hvg.config.changes import changes, judged_changes
from hvg.config.composition import compose, parse_resolved
from hvg.config.stages import differences, merged, stage_config, stages_of
from hvg.core.checkpoint import checkpoint_path, checkpoints, keep_checkpoints
from hvg.core.errors import ConfigError
from hvg.data.prepare import prepared_runs
from hvg.data.training_data import StepPositions
from hvg.model.checkpoint_writing import write_checkpoint
from hvg.parts.continued import Continued

ONE = "one:{data:{views:1},view_attention:none,training:{steps:5}}"
TWO = "two:{training:{steps:7,learning_rate:0.001},sampler:view_as_trained,begins:raw}"
WORDS = ("scale=cpu", f"stages={{{ONE},{TWO}}}")


@pytest.fixture(scope="module")
def config():
    return compose(WORDS)


def refused(action) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        action()
    return {problem.path: problem.message for problem in caught.value.problems}


def test_each_stage_is_the_run_with_its_changes(config):
    one, two = stages_of(config)
    assert [(s.label, s.first, s.last, s.ends) for s in (one, two)] == [
        ("one", 0, 5, (5, 12)),
        ("two", 5, 12, (5, 12)),
    ]
    assert (one.config.data.views, two.config.data.views) == (1, 2)
    assert (one.config.view_attention.name, two.config.view_attention.name) == ("none", "aligned_2d")
    assert (one.config.training.learning_rate, two.config.training.learning_rate) == (3e-3, 1e-3)
    # What an option refers to is the stage's own.
    sampler = two.config.sampler.config
    assert (one.config.sampler.name, two.config.sampler.name) == ("single", "view")
    assert (sampler.views, sampler.frames) == (two.config.data.views, two.config.data.frames)
    assert (one.begins, two.begins) == ("averaged", "raw")
    assert config.last_step == 12 and not one.config.stages


def test_the_root_is_the_last_stage_and_reads_back(config):
    assert config.model_copy(update={"stages": {}}) == stages_of(config)[-1].config
    assert config.stages["two"] == {"begins": "raw"} and config.stages["one"]["data"] == {"views": 1}
    again = parse_resolved(config.to_yaml(), "config.yaml")
    assert again == config and again.to_yaml() == config.to_yaml()
    assert stage_config(config, "one").data.views == 1
    assert stage_config(config, None) == config


def test_a_run_without_stages_is_one():
    plain = compose(["scale=cpu"])
    (only,) = stages_of(plain)
    assert (only.label, only.first, only.last, only.config) == ("", 0, plain.training.steps, plain)
    assert plain.last_step == plain.training.steps


def test_stages_may_be_left_out():
    assert [stage.label for stage in stages_of(compose([*WORDS, "~stages.two"]))] == ["one"]
    assert compose([*WORDS, "~stages"]) == compose(["scale=cpu"])


def test_a_word_of_the_command_line_holds_in_every_stage():
    found = compose([*WORDS, "training.steps=3", "sampler=temporal", "stages.two.data.frames=2"])
    one, two = (stage.config for stage in stages_of(found))
    assert (one.training.steps, two.training.steps) == (3, 3)
    assert (one.sampler.name, two.sampler.name) == ("temporal", "temporal")
    assert (one.data.frames, two.data.frames) == (1, 2)
    assert [stage.config.training.steps for stage in stages_of(compose([*WORDS, "debug=tiny"]))] == [2, 2]


def test_all_mistakes_of_stages_are_told_with_their_places():
    wrong = ("stages.one.dta.views=1", "stages.one.data.vews=1", "stages.one.name=x", "stages.two.sampler=vieww")
    found = refused(lambda: compose([*WORDS, *wrong, "stages.one.begins=raw", "stages.two.begins=fresh"]))
    assert found["stages.one.dta"] == "is unknown. Did you mean 'data'?"
    assert found["stages.one.data.vews"].startswith("unknown key for data. Did you mean 'views'?")
    assert found["stages.one.name"] == "is the same in all stages."
    assert found["stages.two.sampler"] == "no sampler is named 'vieww'. Did you mean 'view'?"
    assert "no stage is before it" in found["stages.one.begins"] and "fresh" in found["stages.two.begins"]
    # What all have is said once.
    assert list(refused(lambda: compose([*WORDS, "optimizer.weight_decay=-1"]))) == ["optimizer.weight_decay"]
    assert list(refused(lambda: compose(["stages.one=3"]))) == ["stages.one"]
    many = "stages={" + ",".join(f"s{number}:{{}}" for number in range(65)) + "}"
    assert list(refused(lambda: compose([many]))) == ["stages"]


def test_clips_of_every_stage_are_prepared(tmp_path):
    folders = prepared_runs([*WORDS, f"data.cache={tmp_path}", "stages.one.dataset={num_subjects:3}"], print)
    assert [config.dataset.config.num_subjects for configs in folders.values() for config in configs] == [3, 192]
    same = prepared_runs([*WORDS, f"data.cache={tmp_path}"], print)
    assert [[config.data.views for config in configs] for configs in same.values()] == [[1, 2]]


@pytest.mark.long
def test_check_forecasts_every_stage(tiny, capsys):
    small = [word for word in tiny if word not in ("scale=cpu", "debug=tiny", "data.views=2")]
    assert check_command([*WORDS, *small]) == 0
    printed = capsys.readouterr().out
    one, two = printed.split("stage two: steps 6 to 12")
    assert (
        one.startswith("stage one: steps 1 to 5")
        and "4 x 1 views x 2 frames" in one
        and "4 x 2 views x 2 frames" in two
    )
    assert all(text.count("fits 80 GB") == 1 for text in (one, two))


TREES = {
    "a setting": ({"data": {"views": 2, "frames": 1}}, {"data": {"views": 4, "frames": 1}}),
    "another part": ({"sampler": {"name": "view", "views": 2}}, {"sampler": {"name": "single"}}),
    "an emptied slot": ({"camera": {"name": "camera_rotation", "width": 16}}, {"camera": None}),
    "a slot more": ({"slots": {}}, {"slots": {"more": {"name": "skeleton"}}}),
    "a slot less": ({"slots": {"more": {"name": "skeleton"}}}, {"slots": {}}),
    "a seed": ({"seed": 0}, {"seed": 1}),
}


@pytest.mark.parametrize("case", TREES)
def test_differences_make_one_tree_of_the_other(case):
    root, tree = TREES[case]
    assert merged(root, differences(tree, root)) == tree
    assert merged(tree, differences(root, tree)) == root
    assert differences(root, root) == {}


def test_what_is_of_the_run_is_no_difference():
    assert differences({"name": "a", "seed": 1}, {"name": "b", "seed": 1}) == {}


def test_a_continued_run_keeps_the_stages_that_are_over(config):
    longer = compose([*WORDS, "stages.two.training.steps=9"])
    (change,) = judged_changes(config, longer, "a.ckpt", step=6)
    assert (change.path, change.was, change.now, change.continued) == ("training.steps", 7, 9, Continued.LONGER)
    first = compose([*WORDS, "stages.one.training.steps=6", "resume_changes=[stages.one.training.steps]"])
    assert [change.path for change in judged_changes(config, first, "a.ckpt", step=4)] == ["stages.one.training.steps"]
    found = refused(lambda: judged_changes(config, first, "a.ckpt", step=5))
    assert list(found) == ["stages.one.training.steps", "resume"] and "up to there stays" in found["resume"]
    # A length that changes in all stages is one of those that are over, too.
    both = compose([*WORDS, "training.steps=9"])
    assert "stages.one.training.steps" in refused(lambda: judged_changes(config, both, "a.ckpt", step=5))


def test_stages_may_be_added_behind_those_that_there_are(config):
    more = compose([*WORDS, "stages.three={training:{steps:2},begins:continued}"])
    assert [(c.path, c.now) for c in changes(config, more) if c.path == "stages"] == [
        ("stages", ["one", "two", "three"])
    ]
    judged = judged_changes(config, more, "a.ckpt", step=12)
    assert "stages" in {change.path for change in judged}
    assert stages_of(more)[2].ordered == 7
    gone = compose(["scale=cpu", "resume_changes=[stages]"])
    assert "stages" in refused(lambda: judged_changes(config, gone, "a.ckpt", step=2))


def test_what_changes_alike_in_all_stages_is_said_once(config):
    other = compose([*WORDS, "optimizer.weight_decay=0.5", "stages.one.training.ema_decay=0.5"])
    assert [change.path for change in changes(config, other)] == [
        "stages.one.training.ema_decay",
        "optimizer.weight_decay",
    ]
    named = compose([*WORDS, "optimizer.weight_decay=0.5", "resume_changes=[training.weight_decay]"])
    assert judged_changes(config, named, "a.ckpt", step=6)
    found = refused(lambda: judged_changes(config, other, "a.ckpt", step=6))
    assert list(found) == ["stages.one.training.ema_decay", "optimizer.weight_decay", "resume"]


def test_checkpoints_with_which_stages_end_are_kept(tmp_path):
    for step in range(1, 7):
        write_checkpoint(checkpoint_path(tmp_path, step), {"global_step": step})
    keep_checkpoints(tmp_path, last=1, every=0, always=(2, 9))
    assert list(checkpoints(tmp_path)) == [2, 6]


def test_a_stage_that_goes_on_takes_the_next_steps_of_the_order():
    whole = list(StepPositions(0, 6, 2, 1, 2))
    assert list(StepPositions(0, 4, 2, 1, 2, behind=2)) == whole[2:]
    assert list(StepPositions(3, 4, 2, 1, 2, behind=2)) == whole[5:]
    assert len(StepPositions(3, 4, 2, 1, 2, behind=2)) == 4
