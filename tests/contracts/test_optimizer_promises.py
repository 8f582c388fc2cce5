"""Every registered optimiser keeps the promises that hvg.testing spells out."""

import pytest
import torch

from hvg.core.errors import HvgError
from hvg.model.ema import Averaging
from hvg.parts import registry
from hvg.parts.optimizer import AdamW, Optimizer
from hvg.parts.part import PartConfig
from hvg.testing import check_optimizer

NAMES = registry.names("optimizer")
SETTINGS = [{}, {"betas": (0.0, 0.5), "weight_decay": 0.3, "eps": 1e-3}]


def loaded(name: str) -> type[Optimizer]:
    part = registry.load("optimizer", name)
    if part.missing():
        pytest.skip(part.missing())
    return part


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_optimizer(name, settings):
    part = loaded(name)
    check_optimizer(part, part.Config(**settings))


@pytest.mark.parametrize("name", NAMES)
def test_every_adamw_does_what_the_fused_one_does(name):
    """Weights of a network and of several thousand numbers: in float32 to rounding, in 8 bits to a share of what they moved."""

    def trained(part: type[Optimizer]) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 6000).view(60, 100))
        start = weight.detach().clone()
        optimizer = Averaging(part(part.Config(weight_decay=0.1)), [{"params": [weight]}], 1e-2, decay=0.9)
        target = torch.sin(7 * start)
        for _ in range(20):
            optimizer.zero_grad()
            (weight - target).square().sum().backward()
            optimizer.step()
        return weight.detach() - start

    expected, found = trained(registry.load("optimizer", "adamw_fused")), trained(loaded(name))
    near = 0.02 if name == "adamw_8bit" else 1e-5
    assert float((found - expected).norm() / expected.norm()) < near


class Forgetful(AdamW):
    """Writes nothing back."""

    def make(self, groups, learning_rate):
        return torch.optim.AdamW(groups, lr=learning_rate, **self.config.model_dump())

    def write(self, state, moment, parts):
        pass


class Shapely(Optimizer):
    """Moves a weight by the mean of its gradient: what a piece of it cannot know."""

    class Config(PartConfig):
        pass

    def make(self, groups, learning_rate):
        class Mean(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure=None):
                for weight in [weight for group in self.param_groups for weight in group["params"]]:
                    if weight.grad is not None:
                        weight.grad = weight.grad * weight.grad.abs().mean()
                return super().step(closure)

        return Mean(groups, lr=learning_rate)


def test_broken_promises_are_named():
    with pytest.raises(AssertionError, match="read and written again it ends in other bits"):
        check_optimizer(Forgetful, Forgetful.Config())
    with pytest.raises(AssertionError, match="in pieces weights end"):
        check_optimizer(Shapely, Shapely.Config())
    Shapely.whole_weights = True
    check_optimizer(Shapely, Shapely.Config())


class Averaged(Forgetful):
    """Calls a moment as checkpoints call the weights' average."""

    moments = ("exp_avg", "average")


def test_a_name_that_checkpoints_have_is_refused_in_a_line():
    part = Averaged(Averaged.Config())
    with pytest.raises(AssertionError, match="moments names average"):
        check_optimizer(Averaged, Averaged.Config())
    with pytest.raises(HvgError, match=r"^Averaged.moments names 'average', .*; call it otherwise$"):
        Averaging(part, [{"params": [torch.nn.Parameter(torch.zeros(3))]}], 0.1, decay=0.9)
