"""What is trained is a choice: which parts it uses, what is refused by name, and the steps of a reconstructor."""

import math
from dataclasses import replace

import pytest
import torch
import yaml
from avatars import write_package
from golden_networks import write_network_files
from test_waits import DEVICE, Waits
from torch.utils.flop_counter import FlopCounterMode

from components.metrics.ssim import gaussian_11, similarity
from hvg.commands.check import check_command, notes, summary
from hvg.config.changes import changes
from hvg.config.composition import compose, parse_resolved, recompose
from hvg.config.settings import SINGLE_PARTS, SLOTS
from hvg.core.errors import ConfigError, HvgError
from hvg.cost.dry_run import dry_run
from hvg.cost.forecast import count, forecast
from hvg.data.cache import missing_from_cache
from hvg.model.avatar import AvatarSystem, around, dissimilarity, drawn_places, square
from hvg.model.counted_step import model_flops
from hvg.model.load import build_system, make_optimizer
from hvg.model.system import HumanVideoSystem
from hvg.parts import registry
from hvg.parts.reconstructor import Seen
from hvg.testing import check_system, tiny_batch

AVATAR = ("system=avatar", "reconstructor=tiny")


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(write_package(tmp_path_factory.mktemp("site")))
        registry._plugins.cache_clear()
        yield
    registry._plugins.cache_clear()


def composed(words, *more: str, reconstructor: str = "tiny"):
    """A tiny run of an avatar; of the words those that a video model alone takes are left out."""
    own = [word for word in words if not word.startswith("backbone.")]
    return compose([*own, "system=avatar", f"reconstructor={reconstructor}", *more])


def refused(*words: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        compose(words)
    return {problem.path: problem.message for problem in caught.value.problems}


# --- which parts a run has ---


def test_a_run_without_a_word_trains_a_video_model_as_ever():
    config = compose([])
    assert config.system.name == "human_video" and "reconstructor" not in config.parts
    resolved = yaml.safe_load(config.to_yaml())
    before = {key: value for key, value in resolved.items() if key != "system"}
    assert "reconstructor" not in before
    earlier = parse_resolved(yaml.safe_dump(before), "config.yaml")
    assert earlier == config and changes(earlier, config) == []
    assert set(config.parts) == {*SINGLE_PARTS} - {"reconstructor"}


def test_an_avatar_has_no_more_than_it_uses(tiny):
    config = composed(tiny)
    assert set(config.parts) == {
        "system",
        "dataset",
        "renderer",
        "body",
        "fit",
        "optimizer",
        "refiner",
        "reconstructor",
    }
    resolved = yaml.safe_load(config.to_yaml())
    unused = {"codec", "backbone", "view_attention", "sampler", "guidance", "alignment", "slots", *SLOTS}
    assert not unused & set(resolved)
    assert parse_resolved(config.to_yaml(), "config.yaml") == config
    assert "system         avatar" in "\n".join(summary(config)) and not any(
        "ports" in line for line in summary(config)
    )
    assert config.conditioners == {}


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("pose=skeleton",), "pose"),
        (("pose.dropout=0.1",), "pose"),
        (("codec=pixel",), "codec"),
        (("sampler.views=2",), "sampler"),
        (("guidance.value=2",), "guidance"),
        (("alignment=pelvis",), "alignment"),
        (("backbone.widths=[32,32]",), "backbone"),
        (("+slots.outline.name=skeleton",), "slots"),
    ],
)
def test_a_slot_that_the_system_does_not_use_is_refused_by_name(words, key):
    assert refused(*AVATAR, *words) == {
        key: f"system=avatar uses no {key}; it uses dataset, renderer, body, fit, reconstructor. Leave it out, or choose "
        "another system."
    }


def test_what_an_experiment_gives_is_refused_as_what_the_command_line_gives():
    found = refused(*AVATAR, "experiment=guided")
    assert list(found) == ["guidance", "pose", "appearance", "reference_keys", "camera"]
    assert set(refused(*AVATAR, "experiment=hvg_stage1", "scale=paper")) >= {"alignment", "image_embedding", "sampler"}


def test_what_a_scale_chooses_is_no_problem_of_an_avatar():
    for scale in ("cpu", "gpu", "paper"):
        assert "backbone" not in compose([*AVATAR, f"scale={scale}"]).parts


def test_a_video_model_uses_no_reconstructor_and_an_avatar_needs_one():
    assert "system=human_video uses no reconstructor" in refused("reconstructor=tiny")["reconstructor"]
    assert refused("system=avatar")["reconstructor"].startswith("no reconstructor is chosen. Known: ")
    assert "tiny" in refused("system=avatar")["reconstructor"]


def test_wrong_words_of_systems_are_told_in_one_line_each():
    assert refused("system=avatr")["system"] == "no system is named 'avatr'. Did you mean 'avatar'?"
    lost = yaml.safe_load(compose([]).to_yaml()) | {"system": {"name": "gone"}}
    with pytest.raises(ConfigError) as caught:
        parse_resolved(yaml.safe_dump(lost), "config.yaml")
    assert [problem.path for problem in caught.value.problems] == ["system.name"]
    assert "every loss has weight 0" in refused(*AVATAR, "system.colour=0", "system.mask=0")["system"]
    assert refused(*AVATAR, "data.latents=cached", "data.cache=x") == {
        "data.latents": "cached are a codec's latents; system=avatar trains on pictures."
    }


def test_fields_that_the_dataset_lacks_are_named(monkeypatch):
    people = registry.load("dataset", "synthetic")
    monkeypatch.setattr(people, "provides", classmethod(lambda cls, config: frozenset({"body", "cameras"})))
    found = refused(*AVATAR)
    assert found["system"].startswith(
        "avatar requires the field 'alpha', which the dataset 'synthetic' does not provide"
    )
    assert found["reconstructor"].startswith("tiny requires the field 'reference'")


def test_a_trained_avatar_takes_no_sampler(tiny):
    with pytest.raises(ConfigError, match="system=avatar uses no sampler"):
        recompose(composed(tiny), ["sampler=view"])
    with pytest.raises(ConfigError, match="cannot change after training"):
        recompose(composed(tiny), ["system=human_video"])


def test_another_system_is_one_change_with_those_that_it_brings(tiny):
    found = {change.path for change in changes(compose(tiny), composed(tiny))}
    assert {"system", "reconstructor", "codec", "pose"} <= found and "codec.path" not in found


# --- what others ask of it ---


def test_the_cost_of_an_avatar_is_its_weights(tiny):
    config = composed(tiny)
    counted = count(config)
    assert counted.parts["reconstructor"].trainable == sum(counted.sizes.trained) == 8 * 16 + 16 + 16 * 4 + 4
    assert counted.flops is None and counted.step is None and forecast(config).total is None
    assert any("activations of system=avatar are not counted" in note for note in notes(config))
    for action in (lambda: next(dry_run(config, 2)), lambda: model_flops(config, (1, 1), (32, 32))):
        with pytest.raises(HvgError, match="system=avatar") as refusal:
            action()
        assert "\n" not in str(refusal.value)


def test_the_check_of_an_avatar_counts_no_passes_of_a_denoiser(tiny, capsys):
    own = [word for word in tiny if not word.startswith("backbone.")]
    assert check_command([*own, *AVATAR]) == 0
    said = capsys.readouterr().out
    assert "memory of each of 1 GPU(s)" in said and "passes of the network" not in said


def test_a_radiance_field_says_its_flops_at_most(tiny):
    """By the counter of operations, where every ray is looked at; what it looks up and adds up does not count as a product."""
    config = composed(tiny, "system.rays=40", "data.batch_size=2", reconstructor="nerf")
    said = model_flops(config, (1, 1), (32, 32))
    assert count(config).flops.model == said
    part = build_system(config).reconstructor
    once = part.flops(40, (32, 32))
    assert said == 3 * 2 * once
    with FlopCounterMode(display=False) as counter:
        part.encoder(torch.rand(1, 4, 32, 32), torch.ones(1, 1, 32, 32))
        rays = part.config.samples * 40
        for layer in (*part.radiance.layers, part.radiance.enter, part.radiance.hidden, part.radiance.colour):
            layer(torch.rand(rays, layer.in_features))
    of_looks = 2 * 32 * 32 * (part.for_pelvis.weight.numel() + part.for_vertex.weight.numel())
    of_density, of_mean = 2 * rays * part.radiance.density.weight.numel(), 2 * part.encoder.mean.weight.numel()
    assert counter.get_total_flops() == once - of_looks - of_density + of_mean


def test_a_step_that_needs_the_mesh_says_so_of_a_cache(tiny, tmp_path, package):
    source = "from avatar_lab.reconstructor_tiny import Part as Tiny\n\nclass Part(Tiny):\n"
    package({"reconstructor.meshed": source + "    requires = Tiny.requires | {'body.vertices'}\n"})
    config = composed(tiny, f"data.cache={tmp_path}", reconstructor="meshed")
    assert build_system(config).signals.mesh and not build_system(composed(tiny)).signals.mesh
    (tmp_path / "none").mkdir()
    assert "no clips are prepared" in str(missing_from_cache(config))


@pytest.mark.parametrize("reconstructor", ["tiny", "flat"])
def test_avatars_keep_their_promises(tiny, reconstructor):
    check_system(composed(tiny, reconstructor=reconstructor))


def test_an_avatar_with_all_losses_keeps_them_too(tiny, tmp_path):
    write_network_files(tmp_path, ["vgg16"])
    every = ("system.ssim=1", "system.lpips=1", "system.patch=16", "training.foreground_weight=2")
    files = (f"evaluation.networks={tmp_path}", "evaluation.any_network=true")
    config = composed(tiny, *every, *files)
    system = build_system(config)
    assert isinstance(system, AvatarSystem) and system.notes == ()
    assert system.weights == {"colour": 1, "mask": 0.1, "ssim": 1, "lpips": 1}
    check_system(config)
    (note,) = build_system(composed(tiny, *every, f"evaluation.networks={tmp_path / 'nowhere'}")).notes
    assert note.startswith("the loss goes without LPIPS: it needs the file vgg16-397923af.pth in ")
    assert not any(name.startswith("_distance") for name in system.state_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("for g in self.draws(batch, 'pixels')[:1] * batch.grid[0]", "is not the mean of theirs"),
        ("torch.rand(self.rays + 1, dtype=torch.float64) for g in self.draws(batch, 'pixels')", "seen again"),
    ],
)
def test_a_broken_promise_is_named(tiny, monkeypatch, wrong, message):
    from hvg.model import avatar

    def pixels(self, batch):
        covered = batch.alpha[:, :, :, 0] >= 0.5
        count = self.rays
        if "[:1]" in wrong:
            first = self.draws(batch, "pixels")[0]
            drawn = torch.rand(batch.grid[0], count, generator=first, dtype=torch.float64)
        else:
            drawn = torch.rand(batch.grid[0], count, dtype=torch.float64)
        return avatar.drawn_places(covered, drawn), torch.zeros(batch.grid[0], 0, dtype=torch.int64)

    monkeypatch.setattr(AvatarSystem, "pixels", pixels)
    with pytest.raises(AssertionError, match=message):
        check_system(composed(tiny))


# --- the steps of an avatar ---


@pytest.fixture
def system(tiny) -> AvatarSystem:
    built = build_system(composed(tiny, "system.rays=400", "training.foreground_weight=0"))
    assert isinstance(built, AvatarSystem)
    return built


@pytest.fixture
def batch():
    """Two clips of a white rectangle on a black ground, which is mostly elsewhere in the second."""
    batch = tiny_batch(2, 2, 2, 32)
    alpha = torch.zeros(2, 2, 2, 1, 32, 32)
    alpha[0, ..., 8:24, 12:20] = 1
    alpha[1, ..., 4:10, 2:6] = 1
    return replace(
        batch, alpha=alpha, frames=alpha.expand(-1, -1, -1, 3, -1, -1) * 2 - 1, sample_index=torch.tensor([4, 9])
    )


def test_half_of_the_pixels_are_on_the_person_and_all_in_the_box(system, batch):
    pixels, patches = system.pixels(batch)
    assert pixels.shape == (2, 400) and patches.shape == (2, 0)
    _, covered = system.truth(batch, pixels)
    assert bool((covered[:, :200] == 1).all()) and 0.2 < float((covered[:, 200:] == 0).float().mean()) < 0.9
    # Three pixels around the rectangle.
    y, x = pixels[0] % 1024 // 32, pixels[0] % 32
    assert (int(y.min()), int(y.max()), int(x.min()), int(x.max())) == (5, 26, 9, 22)
    assert len(pixels[0].div(1024, rounding_mode="floor").unique()) == 4
    again, _ = system.pixels(batch.clips(slice(1, 2)))
    assert torch.equal(again[0], pixels[1])


def test_pictures_that_fill_a_place_are_not_looked_at(system, batch):
    valid = torch.ones(2, 2, 2, dtype=torch.bool)
    valid[0, 1] = False
    valid[1] = False
    pixels, _ = system.pixels(replace(batch, valid=valid))
    assert set((pixels[0] // 1024).tolist()) == {0, 1}
    weight = system.pixel_weight(replace(batch, valid=valid), pixels, torch.ones(2, 400))
    assert bool((weight[0] == 1).all()) and not weight[1].any()


def test_the_host_waits_for_no_pixel(system, batch):
    system.patch, there = 16, replace(batch, valid=torch.ones(2, 2, 2, dtype=torch.bool)).to(DEVICE)
    with Waits() as waits:
        pixels, patches = system.pixels(there)
        _, covered = system.truth(there, pixels)
        weight = system.pixel_weight(there, pixels, covered)
    assert waits.found == [] and pixels.device == weight.device == DEVICE
    assert (pixels.shape, patches.shape) == ((2, 400), (2, 256))


def test_a_true_render_has_no_loss_and_the_background_is_the_data_s(system, batch):
    alpha = batch.alpha[:, :, :, 0]
    seen = Seen(colour=alpha[..., None].expand(-1, -1, -1, -1, -1, 3), alpha=alpha, depth=alpha)

    class True_(torch.nn.Module):
        def render(self, batch, pixels=None, draws=None):
            if pixels is None:
                return seen
            at = [x.flatten(1).gather(1, pixels) for x in (seen.alpha, seen.depth)]
            return Seen(colour=at[0][..., None].expand(-1, -1, 3), alpha=at[0], depth=at[1])

    system.reconstructor, system.background = True_(), (0.0, 0.0, 0.0)
    assert {name: float(x) for name, x in system.training_step(batch, 0).items()} == {"loss": 0, "colour": 0, "mask": 0}
    assert torch.equal(system.generate(batch, num_steps=1), batch.frames)
    system.background = (1.0, 1.0, 1.0)
    losses = system.training_step(batch, 0)
    # White where it is black: 4 in each channel, on the pixels that are not the person's.
    outside = 1 - float(torch.stack([system.truth(batch, system.pixels(batch)[0])[1]]).mean())
    assert float(losses["colour"]) == pytest.approx(4 * outside) and float(losses["mask"]) == 0
    assert float(losses["loss"]) == pytest.approx(float(losses["colour"]))


def test_the_box_of_nothing_is_nothing_and_others_stay_in_the_picture():
    covered = torch.zeros(3, 8, 8, dtype=torch.bool)
    covered[1, 0, 7] = covered[1, 2, 5] = covered[2, 4, 4] = True
    box = around(covered, 1)
    assert not box[0].any()
    assert box[1].nonzero().tolist() == [[y, x] for y in range(4) for x in range(4, 8)]
    assert box[2].nonzero().tolist() == [[y, x] for y in (3, 4, 5) for x in (3, 4, 5)]


def test_places_are_drawn_evenly_and_in_whole_numbers():
    where = torch.zeros(2, 3, 4, dtype=torch.bool)
    where[0, 1, 1] = where[0, 2, 3] = where[0, 0, 0] = True
    draws = torch.tensor([[0.0, 0.34, 0.67, 0.999999]], dtype=torch.float64).expand(2, -1)
    assert drawn_places(where, draws).tolist() == [[0, 5, 11, 11], [11, 11, 11, 11]]


def test_a_square_stays_in_its_picture():
    centres = torch.tensor([[64 + 0], [64 * 2 + 63], [8 * 4 + 4]])
    found = square(centres, 4, (8, 8))
    assert found.shape == (3, 16)
    assert found[0, :5].tolist() == [64, 65, 66, 67, 72]
    assert found[1].max() == 64 * 2 + 63 and found[1].min() == 64 * 2 + 36
    assert found[2].view(4, 4)[0, 0] == 2 * 8 + 2
    assert square(centres, 20, (8, 8)).shape == (3, 64) and square(centres, 0, (8, 8)).shape == (3, 0)


def test_dissimilarity_is_that_of_the_metric_inside_of_pictures():
    pictures = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = (0.7 * pictures + 0.3 * pictures.flip(0)).requires_grad_()
    found = dissimilarity(other, pictures)
    ours, truth = (127.5 * (x.detach().double() + 1) for x in (other, pictures))
    expected = [1 - similarity(a, b, inside, 1.0) for a, b in zip(ours, truth, strict=True)]
    assert found.tolist() == pytest.approx([float(x) for x in expected], rel=1e-4)
    assert dissimilarity(pictures, pictures).abs().max() < 1e-5
    found.sum().backward()
    assert other.grad.isfinite().all() and other.grad.any()


def inside(images: torch.Tensor) -> torch.Tensor:
    """Blurred as the metric does it, without what looks beyond the edges."""
    return gaussian_11(images)[..., 5:-5, 5:-5]


def test_a_learning_rate_may_halve_as_published(tiny):
    config = composed(tiny, "training.halve_every=10", "training.warmup_steps=0", "training.learning_rate=2e-3")
    optimizer, schedule = make_optimizer([torch.nn.Parameter(torch.zeros(1))], config)
    assert [schedule(step) for step in (0, 9, 10, 25)] == [1, 1, 0.5, 0.25]
    cosine = make_optimizer([torch.nn.Parameter(torch.zeros(1))], composed(tiny, "training.steps=100"))[1]
    assert cosine(50) == pytest.approx(0.02 + 0.98 * 0.5) and math.isclose(optimizer.param_groups[0]["lr"], 2e-3)


def test_somebody_s_own_system_is_a_word(tiny):
    words = [*(word for word in tiny if not word.startswith("backbone.")), "system=shifted", "reconstructor=tiny"]
    system = build_system(compose([*words, "system.shift=2"]))
    assert not isinstance(system, AvatarSystem | HumanVideoSystem)
    batch = replace(tiny_batch(), sample_index=torch.arange(2))
    assert 2 < float(system.training_step(batch, 0)["loss"].detach()) < 3
    # It takes a clip that only fills a place for one of its own.
    with pytest.raises(AssertionError, match="draws"):
        check_system(compose(words))
