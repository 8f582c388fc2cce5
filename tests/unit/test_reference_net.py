"""The reference network as a slot of a run: what is filled, what is trained, how often it runs."""

from dataclasses import replace

import pytest
import torch

from hvg.config.build import build_networks
from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.cost.forecast import forecast
from hvg.model import load
from hvg.model.checkpoint_writing import Entry, write_checkpoint
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.parts.context import Context
from hvg.parts.plan import Sampler
from hvg.testing import build, tiny_batch, tiny_context
from hvg.train import run
from hvg.values.conditioning import Site
from hvg.values.grid import Window

REFERENCE_NET = registry.load("conditioner", "reference_net")


class TwoHalves(Sampler):
    """Every view and half of the frames at a time."""

    def windows(self, step: int, num_steps: int, views: int, frames: int) -> list[Window]:
        halves = (tuple(range(frames // 2)), tuple(range(frames // 2, frames)))
        return [Window((v,), half, torch.ones(1, len(half))) for v in range(views) for half in halves]


def default(kind: str, name: str, **settings):
    part = registry.load(kind, name)
    return part(part.Config(**settings), Context())


def build_system(**settings) -> HumanVideoSystem:
    context = tiny_context()
    part = build(REFERENCE_NET, REFERENCE_NET.Config(**settings), context)
    return HumanVideoSystem(
        alignment=default("alignment", "none"),
        backbone=context.backbone,
        conditioners={"reference_keys": part},
        codec=context.codec,
        prediction=default("prediction", "x0"),
        sampler=TwoHalves(),
        solver=default("solver", "euler"),
        guidance=default("guidance", "constant", value=2.0),
        signal_keys={"reference_keys": "reference_net"},
        seed=0,
        optimizer=lambda weights: (torch.optim.SGD(weights, lr=0.1), lambda step: 1.0),
    )


def test_sampling_runs_it_once_a_clip_however_many_windows_and_steps_there_are():
    system, calls = build_system(dropout=0.1), []
    encoder, backbone = system.conditioners["reference_keys"].encoder, system.backbone
    encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    backbone.register_forward_hook(lambda *_: calls.append("backbone"))
    system.generate(tiny_batch(2, 2, 4), num_steps=2, windows_per_call=1)
    assert calls.count("encoder") == 1
    # 2 steps, 2 views, 2 halves, with and without the reference.
    assert calls.count("backbone") == 16


def test_it_learns_with_the_backbone():
    system = build_system()
    system.training_step(replace(tiny_batch(), sample_index=torch.arange(2)), 0)["loss"].backward()
    encoder = system.conditioners["reference_keys"].encoder
    assert all(weight.grad is not None and weight.grad.any() for weight in encoder.parameters())


def test_frozen_it_has_no_gradients_is_not_optimised_and_is_saved():
    system = build_system(trainable=False)
    system.training_step(replace(tiny_batch(), sample_index=torch.arange(2)), 0)["loss"].backward()
    encoder = system.conditioners["reference_keys"].encoder
    assert all(weight.grad is None and not weight.requires_grad for weight in encoder.parameters())
    assert all(weight.grad is not None for weight in system.backbone.parameters())
    optimised = {id(w) for group in system.make_optimizer()[0].param_groups for w in group["params"]}
    assert optimised == {id(weight) for weight in system.backbone.parameters()}
    assert "conditioners.reference_keys.encoder.conv_in.weight" in system.state_dict()


def test_it_fills_the_way_down_and_the_middle_unless_asked_for_all():
    ports = tiny_context().ports
    spec = REFERENCE_NET.spec(REFERENCE_NET.Config(), ports)
    assert spec.memory == {"down_0_attention_0": 32, "down_1_attention_0": 64, "mid_attention_0": 64}
    assert set(REFERENCE_NET.spec(REFERENCE_NET.Config(sites="all"), ports).memory) == set(ports.memory)


def test_a_backbone_without_such_sites_is_refused():
    ports = replace(tiny_context().ports, memory={"block_0": Site(32, 1, early=False)})
    with pytest.raises(HvgError, match=r"finds none among the backbone's memory sites \(block_0\)"):
        REFERENCE_NET.spec(REFERENCE_NET.Config(), ports)
    with pytest.raises(HvgError, match="it has none"):
        REFERENCE_NET.spec(REFERENCE_NET.Config(sites="all"), replace(ports, memory={}))


def trainable(config) -> dict[str, int]:
    return {name: part.trainable for name, part in forecast(config).counts.parts.items()}


@pytest.mark.long
def test_a_run_gates_the_sites_that_are_filled_and_counts_what_is_trained():
    words = ("backbone=svd_tiny", "reference_keys=reference_net")
    config = compose([*words, "backbone.memory=gated"])
    backbone, conditioners = build_networks(config, default("codec", "pixel"))
    filled = {"down_1_attention_0", "mid_attention_0"}
    assert {n for n, _ in backbone.named_parameters() if "gate" in n} == {f"memory_gate.{site}" for site in filled}
    counts, plain = trainable(config), trainable(compose(words))
    assert counts["reference_keys"] == sum(w.numel() for w in conditioners["reference_keys"].parameters()) > 0
    assert counts["backbone"] - plain["backbone"] == 2 * 2
    assert counts == trainable(compose([*words, "backbone.memory=gated", "backbone.kernels=library"]))
    assert trainable(compose([*words, "reference_keys.trainable=false"]))["reference_keys"] == 0


def test_a_run_that_adds_it_copies_the_backbone_it_starts_from(tiny, tmp_path):
    words = [*tiny, "evaluation.weights=raw"]
    first = load.build_system(compose([*words, "reference_keys=none", "seed=5"]))
    weights = [Entry.of(f"weights/{name}", tensor) for name, tensor in first.state_dict().items()]
    write_checkpoint(tmp_path / "step-0000001.ckpt", {}, weights)
    lines = []
    config = compose([*words, "reference_keys=reference_net", f"checkpoint={tmp_path / 'step-0000001.ckpt'}"])
    system = run.start_system(config, lines.append)
    assert any(line.startswith("new: conditioners.reference_keys") for line in lines)
    kept = first.backbone.state_dict()
    assert all(torch.equal(weight, kept[name]) for name, weight in system.backbone.state_dict().items())
    copied = dict(system.conditioners["reference_keys"].named_parameters())
    own = dict(load.build_system(config).conditioners["reference_keys"].named_parameters())
    same = [
        name
        for name, weight in copied.items()
        if any(torch.equal(weight, x) for x in kept.values() if x.shape == weight.shape)
    ]
    assert len(same) > len(copied) / 2
    assert not all(torch.equal(copied[name], own[name]) for name in same), "another seed's backbone would not do"
