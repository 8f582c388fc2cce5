"""Steps that share what the deep half of the network makes: when it runs, what is kept, what a sample then costs."""

from dataclasses import replace

import pytest
import torch

from hvg.config.composition import compose
from hvg.core.errors import ConfigError, HvgError
from hvg.core.random_keys import generator
from hvg.cost.passes import sampling_passes
from hvg.cost.table import sampling_line
from hvg.model.deep_steps import DeepSteps
from hvg.model.load import build_system
from hvg.model.trained_windows import sampling_notes
from hvg.parts import registry
from hvg.testing import tiny_batch

STEPS = 4


def model(tiny, *words):
    """A small system that says something."""
    built = build_system(compose([*tiny, *words])).eval()
    with torch.no_grad():
        for number, weight in enumerate(built.parameters()):
            weight.add_(0.05 * torch.randn(weight.shape, generator=generator("weights", number)))
    return built


@pytest.fixture(scope="module")
def system(tiny):
    return model(tiny)


def part(kind, name, **settings):
    cls = registry.load(kind, name)
    return cls(cls.Config(**settings))


def runs_of(system, reuse, monkeypatch, **words):
    """Latents with ``reuse``, and how often the innermost layer and the outermost one ran."""
    monkeypatch.setattr(system, "reuse", reuse)
    counts, hooks = {"deep": 0, "outer": 0}, []
    for name, layer in (("deep", system.backbone.mid_block.resnets[0]), ("outer", system.backbone.conv_out)):

        def count(*_, name=name):
            counts[name] += 1

        # The fast kernels take layers apart: what they call of one is what is hooked.
        hooked = getattr(layer, "spatial_res_block", layer)
        hooks.append(hooked.register_forward_pre_hook(count))
    batch = replace(tiny_batch(1, 2, 2), frames=None, alpha=None)
    made = system.sample_latents(batch, num_steps=STEPS, **words)[0]
    for hook in hooks:
        hook.remove()
    return made, counts["deep"], counts["outer"]


# --- when ---


def test_the_deep_half_runs_at_every_so_many_th_evaluation():
    steps, runs = DeepSteps(3), []
    for _ in range(7):
        steps.begin()
        with steps.of("window") as features:
            runs.append(features is None or not features.tensors)
            if features is not None:
                features.made(lambda: torch.zeros(1))
    assert runs == [True, False, False, True, False, False, True]


def test_a_window_that_comes_later_is_looked_at_in_full_once():
    steps, runs = DeepSteps(4), []
    for evaluation in range(8):
        steps.begin()
        if evaluation in (2, 3, 7):
            with steps.of("late") as features:
                runs.append(None if features is None else len(features.tensors))
                if features is not None:
                    features.made(lambda: torch.zeros(1))
    # At the last evaluation that could share, nothing is kept for nobody.
    assert runs == [0, 1, None]


@pytest.mark.parametrize(("reuse", "deep"), [(1, 4), (2, 2), (3, 2), (4, 1), (9, 1)])
def test_sampling_runs_the_deep_half_as_often(system, monkeypatch, reuse, deep):
    made, inner, outer = runs_of(system, reuse, monkeypatch)
    assert (inner, outer) == (deep, STEPS) and made.isfinite().all()
    plain = runs_of(system, 1, monkeypatch)[0]
    assert torch.equal(made, plain) == (reuse == 1)


def test_a_step_of_two_evaluations_counts_as_two(system, monkeypatch):
    monkeypatch.setattr(system, "solver", part("solver", "heun"))
    assert runs_of(system, 2, monkeypatch)[1:] == (4, 2 * STEPS - 1)


def test_what_guidance_leaves_out_shares_with_its_own(tiny, monkeypatch):
    built = model(tiny, "guidance=constant", "guidance.value=2", "appearance.dropout=0.1", "pose.dropout=0.1")
    assert runs_of(built, 2, monkeypatch)[1:] == (4, 2 * STEPS)


def test_windows_of_a_plan_share_each_with_itself(system, monkeypatch):
    monkeypatch.setattr(system, "sampler", part("sampler", "partition", views=1, frames=1))
    made, inner, outer = runs_of(system, 2, monkeypatch, windows_per_call=1)
    assert (inner, outer) == (4 * STEPS / 2, 4 * STEPS)
    together = runs_of(system, 2, monkeypatch)[0]
    torch.testing.assert_close(made, together, rtol=1e-4, atol=1e-4)


# --- what it takes ---


def test_features_that_find_no_room_end_the_sample(system, monkeypatch):
    monkeypatch.setattr(system, "kept_features", 1e-6)
    with pytest.raises(HvgError, match=r"evaluation\.reuse=2: .*kept_features=1e-06 GiB; give more"):
        runs_of(system, 2, monkeypatch)
    assert runs_of(system, 1, monkeypatch)[1:] == (STEPS, STEPS)


def test_room_is_that_of_the_evaluations_that_share():
    steps = DeepSteps(2, 5 / 2**30)
    for _ in range(6):
        steps.begin()
        with steps.of("window") as features:
            if features is not None:
                features.made(lambda: torch.zeros(1))
    steps.begin()
    with pytest.raises(HvgError, match=r"more than evaluation\.kept_features"):
        for number in range(2):
            with steps.of(number) as features:
                features.made(lambda: torch.zeros(1))


# --- what is said of it ---


def test_a_backbone_without_a_deep_half_is_refused(tiny):
    with pytest.raises(
        ConfigError, match=r"evaluation.reuse.*wan_dit, as it is set, has no deep half that 2 steps could share"
    ):
        compose(
            [*tiny[:-2], "backbone=wan_tiny", "backbone.layers=2", "backbone.view_blocks=[1]", "evaluation.reuse=2"]
        )
    compose([*tiny, "evaluation.reuse=2"])


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (["evaluation.steps=6"], (6, 0)),
        (["evaluation.steps=6", "evaluation.reuse=2"], (6, 3)),
        (["evaluation.steps=6", "evaluation.reuse=3"], (6, 4)),
        (["evaluation.steps=4", "evaluation.reuse=2", "solver=heun"], (7, 3)),
        (
            ["evaluation.steps=4", "evaluation.reuse=2", "sampler=partition", "sampler.views=1", "sampler.frames=1"],
            (4, 2),
        ),
    ],
)
def test_check_counts_what_the_outer_layers_look_at_alone(tiny, words, passes):
    config = compose([*tiny, *words])
    assert sampling_passes(config, 2, 2) == pytest.approx(passes)
    said = "by its outer layers alone" in sampling_line(config)[0]
    assert said == (config.evaluation.reuse > 1)


def test_steps_whose_windows_change_share_nothing_and_it_is_said(tiny):
    def notes(reuse, views):
        config = compose([*tiny, "sampler=shifting", f"evaluation.reuse={reuse}"])
        sampler = part("sampler", "shifting", views=views)
        return [note for note in sampling_notes(config, sampler, STEPS, [(4, 2)]) if "reuse" in note]

    assert notes(2, views=2) == [
        "evaluation.reuse=2: neighbouring steps of sampler=shifting have other windows, and share nothing"
    ]
    assert not notes(1, views=2) and not notes(2, views=4)
