"""Prompts: what the libraries' own encoders give, what stands in for them, what is kept of them, and what is refused."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_folders import WIDTH

from hvg.config import wiring
from hvg.config.command_options import SampleOptions
from hvg.config.composition import compose, recompose
from hvg.core.digests import components_digest
from hvg.core.errors import ConfigError, DataError, HvgError
from hvg.data.features import TextFeatures, encodings
from hvg.data.latents import EncodedFile, encoded_path, write_encoded
from hvg.data.shard_writing import write_index, write_shard
from hvg.data.shards import ShardReader, index_path
from hvg.model.fake_step import fake_networks, fake_request
from hvg.model.load import build_system
from hvg.parts import registry
from hvg.parts.text_conditioner import check_captions
from hvg.sample.request_notes import prompt_note
from hvg.testing import build, nudged, tiny_batch, tiny_context

PROMPTS = ["a person walks", "a person in a red coat waves, in blue light", ""]


def prompt(folder=None, encoder="umt5", context=None, encoder_settings=None, **settings):
    """The conditioner with random projections, in float32."""
    part = registry.load("conditioner", "prompt")
    if folder is not None:
        chosen = {"precision": "32", **(encoder_settings or {})}
        settings |= {"encoder": encoder, "path": str(folder / encoder), "encoder_settings": chosen}
    elif encoder_settings:
        settings["encoder_settings"] = encoder_settings
    return build(part, part.Config(**settings), context or tiny_context())


def told(part, *captions):
    """A batch of clips with these captions."""
    return replace(tiny_batch(clips=len(captions)), caption=captions)


def context_of_width(width):
    context = tiny_context()
    return replace(context, ports=replace(context.ports, text_width=width))


# --- what the libraries' own encoders give ---


def test_umt5_gives_what_wan_s_pipeline_gives(text_folder):
    from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline
    from transformers import T5Tokenizer, UMT5EncoderModel

    folder = text_folder / "umt5"
    pipeline = WanPipeline(
        tokenizer=T5Tokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval(),
        vae=None,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        transformer=None,
    )
    asked = [*PROMPTS, "  a &amp;amp; b \n walks "]
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(asked, do_classifier_free_guidance=False, max_sequence_length=512)
    part = prompt(text_folder, context=context_of_width(WIDTH), default="")
    batch = told(part, *asked)
    found = part(None, batch).text
    assert found.shape == (4, 1, 1, 512, WIDTH) and part.projection is None and not list(part.parameters())
    torch.testing.assert_close(found[:, 0, 0], expected, rtol=1e-5, atol=1e-5)
    ends = (expected != 0).any(dim=-1).sum(dim=-1)
    assert torch.equal((found[:, 0, 0] != 0).any(dim=-1).sum(dim=-1), ends) and ends.tolist()[2] == 1


def test_t5_gives_what_the_library_gives_up_to_the_end_of_a_text(text_folder):
    from transformers import T5EncoderModel, T5Tokenizer

    folder = text_folder / "t5"
    tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer")
    network = T5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    given = tokenizer(PROMPTS, padding="max_length", max_length=64, return_tensors="pt")
    with torch.no_grad():
        expected = network(given.input_ids, given.attention_mask).last_hidden_state * given.attention_mask[..., None]
    part = prompt(text_folder, "t5", context_of_width(WIDTH), {"max_tokens": 64}, default="")
    torch.testing.assert_close(part.features(told(part, *PROMPTS)), expected, rtol=1e-5, atol=1e-5)


def test_t5_s_filler_and_clip_s_text_as_one_vector_are_what_flux_s_pipeline_gives(flux_folder):
    from flux_pipelines import small_pipeline

    with torch.no_grad():
        tokens, pooled, _ = small_pipeline().encode_prompt(PROMPTS, None, max_sequence_length=40)
    part, context = registry.load("conditioner", "prompt"), context_of_width(WIDTH)
    context = replace(context, ports=replace(context.ports, pooled_width=WIDTH))
    t5 = {"place": "text_encoder_2", "filler": "seen", "precision": "32", "max_tokens": 40}
    shared = {"path": str(flux_folder), "default": ""}
    words = build(part, part.Config(encoder="t5", encoder_settings=t5, **shared), context)
    whole = build(part, part.Config(encoder="clip", fills="pooled", negative="a coat", **shared), context)
    batch = told(words, *PROMPTS)
    torch.testing.assert_close(words(None, batch).text[:, 0, 0], tokens, rtol=1e-5, atol=1e-5)
    given = whole(None, batch)
    torch.testing.assert_close(given.pooled[:, 0, 0], pooled, rtol=1e-5, atol=1e-5)
    assert given.text is None and not [*words.parameters(), *whole.parameters()]
    assert words.frozen().keys() == {"text_encoder_2", "tokenizer_2"}
    assert whole.frozen().keys() == {"text_encoder", "tokenizer"}
    instead = whole.eval().null(given).pooled
    assert instead.shape == given.pooled.shape
    assert torch.equal(instead, whole(None, told(whole, *["a coat"] * 3)).pooled)


def test_a_text_as_one_vector_needs_an_encoder_and_a_backbone_for_it():
    part, ports = registry.load("conditioner", "prompt"), tiny_context().ports
    with pytest.raises(HvgError, match="the encoder learned gives no text as one vector"):
        part.spec(part.Config(fills="pooled"), ports)
    with pytest.raises(HvgError, match="fills the port 'pooled', which this backbone lacks"):
        part.spec(part.Config(fills="pooled", encoder="clip"), ports)
    told = build(part, part.Config(encoder="learned"), tiny_context()).encoder
    with pytest.raises(HvgError, match="Learned gives tokens of a text alone"):
        told.pooled(["a person"])


@pytest.mark.parametrize("layout", ["of today", "of Stable Diffusion's files"])
def test_clip_gives_what_the_library_gives_its_filler_included(text_folder, tmp_path, layout):
    from transformers import CLIPTextModel, CLIPTokenizer

    shutil.copytree(text_folder / "clip", folder := tmp_path / "clip")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    network = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    given = tokenizer(PROMPTS, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        expected = network(given.input_ids).last_hidden_state
    if layout != "of today":
        words = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"]
        (folder / "tokenizer" / "tokenizer.json").unlink()
        (folder / "tokenizer" / "vocab.json").write_text(json.dumps(words))
        (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
        weights = load_file(path := folder / "text_encoder" / "model.safetensors")
        named = {f"text_model.{name.removeprefix('text_model.')}": x for name, x in weights.items()}
        save_file(named, path, metadata={"format": "pt"})
    part = prompt(tmp_path, "clip", context_of_width(WIDTH), default="")
    torch.testing.assert_close(part.features(told(part, *PROMPTS)), expected, rtol=1e-5, atol=1e-5)


def test_half_precision_is_that_of_the_library(text_folder):
    from transformers import T5Tokenizer, UMT5EncoderModel

    folder = text_folder / "umt5"
    ids = T5Tokenizer.from_pretrained(folder / "tokenizer")(PROMPTS[0]).input_ids
    network = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.bfloat16).eval()
    with torch.no_grad():
        expected = network(torch.tensor([ids])).last_hidden_state[0].float()
    part = prompt(text_folder, encoder_settings={"precision": "bf16"})
    assert torch.equal(part.features(told(part, PROMPTS[0]))[0, : len(ids)], expected)


# --- what stands in ---


def test_a_width_of_its_own_is_led_to_the_port_s_and_zeros_stay_zeros(text_folder):
    part = nudged(prompt(text_folder, encoder_settings={"max_tokens": 20}))
    tokens = part(None, told(part, PROMPTS[0])).text
    assert tokens.shape == (1, 1, 1, 20, 24) and set(part.state_dict()) == {"projection.weight"}
    said = part.features(told(part, PROMPTS[0])).any(dim=-1)[0]
    assert torch.equal(tokens[0, 0, 0].any(dim=-1), said) and 0 < said.sum() < 20


def test_in_training_the_empty_text_stands_in_and_in_sampling_the_negative_one(text_folder):
    part = prompt(text_folder, negative="a blue coat", default="")
    given = part(None, told(part, "a person walks", "a person waves"))
    empty, negative = (part(None, told(part, text, text)).text for text in ("", "a blue coat"))
    assert torch.equal(part.train().null(given).text, empty)
    assert torch.equal(part.eval().null(given).text, negative) and not torch.equal(empty, negative)


def test_of_an_encoder_that_learns_nothing_stands_in():
    part = nudged(prompt(negative="a blue coat"))
    given = part(None, told(part, "a person walks"))
    assert given.text.any() and not part.null(given).text.any()
    assert not part.has_frozen_features(part.config) and {name.split(".")[0] for name in part.state_dict()} == {
        "encoder"
    }


def test_only_the_negative_text_may_change_after_training(tiny):
    config = compose([*tiny, "text=prompt", "backbone.cross_attention_width=24", "text.dropout=0.1"])
    assert recompose(config, ["text.negative='a blur, two heads'"]).text.config.negative == "a blur, two heads"
    for word in ("text.prompt=x", "text.default=x", "text.too_long=cut"):
        with pytest.raises(ConfigError, match="cannot change after training"):
            recompose(config, [word])


def test_what_is_read_of_a_clip():
    part = registry.load("conditioner", "prompt")
    captions, fixed, default = (part.Config(**given) for given in ({}, {"prompt": "a man"}, {"default": "somebody"}))
    assert [part.needs(config) for config in (captions, fixed, default)] == [{"caption"}, set(), set()]
    assert [part.hears(config) for config in (captions, fixed, default)] == [True, False, True]
    assert prompt().text_of(" a  woman &gt; 5 ", "c") == "a woman > 5"
    assert prompt(prompt="a man").text_of("a woman", "c") == prompt(prompt="a man").text_of("", "c") == "a man"
    assert [prompt(default="somebody").text_of(caption, "c") for caption in ("", "a woman")] == ["somebody", "a woman"]
    with pytest.raises(DataError, match=r"clip 'c' has no caption, .*conditioner\.default"):
        prompt().text_of(" ", "c")
    bare = replace(tiny_batch(), caption=None)
    assert prompt(default="somebody").texts(bare) == ["somebody"] * 2
    with pytest.raises(HvgError, match=r"ClipBatch\.caption"):
        prompt().texts(bare)


def test_what_stands_in_is_said():
    part = registry.load("conditioner", "prompt")
    assert not part.notes(part.Config(), frozenset({"caption"}))
    assert "every clip has the text 'a man'" in part.notes(part.Config(prompt="a man"), frozenset())[0]
    somebody = part.Config(default="somebody")
    assert part.notes(somebody, frozenset({"caption"}))[0].startswith(
        "clips without a caption have the text 'somebody'"
    )
    assert part.notes(somebody, frozenset())[0].startswith("the data set gives no captions, so all clips have")


def test_it_is_said_before_a_run(tiny):
    words = [*tiny, "text=prompt", "backbone.cross_attention_width=24", "text.default=somebody"]
    assert wiring.slot_notes(compose(words)) == [
        "text=prompt: clips without a caption have the text 'somebody' (default)"
    ]
    assert [prompt_note(compose(words), SampleOptions.model_construct(prompt=None))] == wiring.slot_notes(
        compose(words)
    )
    assert wiring.slot_notes(compose(list(tiny))) == []


# --- what is refused ---


@pytest.mark.parametrize("encoder", ["learned", "umt5", "clip"])
def test_a_text_that_is_too_long_is_one_line_or_cut(text_folder, encoder):
    folder = None if encoder == "learned" else text_folder
    most = {"max_tokens": 6}
    part = prompt(folder, encoder, encoder_settings=most)
    captions = {"short": "a red", "long": "a person in a red coat walks and waves"}
    check_captions([part], {"short": captions["short"]})
    with pytest.raises(
        DataError, match=rf"clip 'long'.* tokens of {encoder}, which gives 6 .*conditioner\.too_long=cut"
    ) as error:
        check_captions([part], captions)
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"^conditioner\.prompt: its text"):
        prompt(folder, encoder, encoder_settings=most, prompt=captions["long"])
    cut = prompt(folder, encoder, encoder_settings=most, too_long="cut")
    check_captions([cut], captions)
    assert cut(None, told(cut, captions["long"])).text.shape[3] == 6


def test_a_text_that_is_cut_keeps_its_end_of_sequence(text_folder):
    part = prompt(text_folder, encoder_settings={"max_tokens": 4}, too_long="cut")
    tokenizer = part.encoder.frozen()["tokenizer"]
    assert part.encoder.ids(tokenizer, "a person walks in red") == [*tokenizer("a person walks").input_ids[:3], 1]


def without(folder, tmp_path, *gone):
    """A copy of an encoder's folder without some of its files."""
    shutil.copytree(folder, tmp_path / folder.name)
    for name in gone:
        path = tmp_path / folder.name / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return tmp_path


@pytest.mark.parametrize(
    ("gone", "reason"),
    [
        ("tokenizer", "no tokenizer at .* a folder with tokenizer_config.json and tokenizer.json or spiece.model"),
        ("tokenizer/tokenizer.json", "no tokenizer at .*there is no tokenizer.json"),
        ("text_encoder", "no text_encoder at .* a folder with config.json and model.safetensors"),
        ("text_encoder/config.json", "no text_encoder at .*there is no config.json"),
    ],
)
def test_a_folder_that_lacks_something_is_one_line_when_the_part_is_built(text_folder, tmp_path, gone, reason):
    with pytest.raises(HvgError, match=rf"^conditioner\.path: {reason}") as error:
        prompt(without(text_folder / "umt5", tmp_path, gone))
    assert "\n" not in str(error.value)


def test_no_folder_and_one_of_another_network_are_one_line(text_folder, tmp_path):
    with pytest.raises(
        HvgError, match=r"^conditioner\.path: umt5 is read from files; give conditioner\.path the folder"
    ):
        part = registry.load("conditioner", "prompt")
        build(part, part.Config(encoder="umt5"), tiny_context())
    shutil.copytree(text_folder / "umt5", tmp_path / "clip")
    with pytest.raises(HvgError, match="says no hidden_size, so it is of another network than CLIPTextModel"):
        prompt(tmp_path, "clip")
    with pytest.raises(HvgError, match=r"max_tokens: 78 is asked for, .* has places for 77"):
        prompt(text_folder, "clip", encoder_settings={"max_tokens": 78})


def test_damaged_files_are_one_line(text_folder, tmp_path):
    folder = without(text_folder / "umt5", tmp_path)
    tokens, weights = folder / "umt5" / "tokenizer" / "tokenizer.json", folder / "umt5" / "text_encoder"
    whole = tokens.read_text()
    tokens.write_text(whole[: len(whole) // 2])
    with pytest.raises(HvgError, match=r"^conditioner\.path: no tokenizer at") as error:
        prompt(folder)
    assert "\n" not in str(error.value)
    tokens.write_text(whole)
    named = load_file(weights / "model.safetensors")
    named.pop(next(name for name in sorted(named) if name.startswith("encoder.block.1")))
    save_file(named, weights / "model.safetensors", metadata={"format": "pt"})
    part = prompt(folder)
    with pytest.raises(HvgError, match=r"text_encoder at .* is not whole: missing encoder\.block\.1"):
        part.features(told(part, "a"))


def test_a_backbone_without_cross_attention_is_told(tiny):
    with pytest.raises(ConfigError, match=r"text: prompt fills the port 'text'.*backbone\.cross_attention_width=64"):
        compose([*tiny, "text=prompt"])


def test_an_unknown_encoder_and_its_settings_are_judged_with_the_rest(tiny):
    with pytest.raises(ConfigError) as error:
        compose([*tiny, "text=prompt", "text.encoder=umt6", "backbone.cross_attention_width=24"])
    assert "text.encoder: no text_encoder is named 'umt6'. Did you mean 'umt5'?" in str(error.value)
    with pytest.raises(ConfigError, match=r"text\.encoder_settings\.max_token"):
        compose([*tiny, "text=prompt", "text.encoder_settings.max_token=3", "backbone.cross_attention_width=24"])


# --- what is kept ---


def of_text(tiny, folder, *more):
    words = ["data.recolour=0", "data.cache=unused", "data.latents=cached", "backbone.cross_attention_width=24"]
    words += ["text=prompt", "text.encoder=umt5", f"text.path={folder / 'umt5'}", "text.default=''"]
    return compose([*tiny, *words, "text.encoder_settings.precision='32'", *more])


def text_features(config):
    system = build_system(config)
    (found,) = [e for e in encodings(config, system.codec, system.conditioners.values()) if isinstance(e, TextFeatures)]
    return system, found


def test_features_are_kept_by_the_text_once_for_all_clips_that_have_it(tiny, text_folder, tmp_path):
    system, encoding = text_features(of_text(tiny, text_folder))
    captions = ("a person walks", "a red coat", " a  person walks", "")
    clips = [replace(tiny_batch(1, 1, 1, seed=n), clip_id=(f"c{n}",), caption=(x,)) for n, x in enumerate(captions)]
    write_shard(path := tmp_path / "train-00000-of-00001.tar", clips)
    shard = ShardReader(path)
    assert list(shard.texts.values()) == list(captions)
    keys = encoding.keys(shard.texts)
    assert len(set(keys)) == 3 and keys[0] == keys[2]
    made = {key: encoding.encode(shard.load(n, images=(), signals=())) for n, key in enumerate(keys)}
    write_encoded(encoded_path(path, encoding.name), made)
    file, part = EncodedFile(encoded_path(path, encoding.name), keys), system.conditioners["text"]
    assert file.path.stat().st_size < 4 * 512 * WIDTH, "what fills up is not kept"
    for clip in clips:
        restored = encoding.restore(replace(clip, frames=None, reference=None), file, None)
        assert torch.equal(restored.features[part.features_key], part.features(clip))
        assert torch.equal(part(None, restored).text, part(None, clip).text)
    with pytest.raises(DataError, match="holds nothing of clip"):
        EncodedFile(file.path, encoding.keys({"c0": "a person waves"}))


def test_their_name_changes_with_what_they_depend_on_and_with_nothing_else(tiny, text_folder, tmp_path):
    def name(*words, folder=text_folder):
        return text_features(of_text(tiny, folder, *words))[1].name

    first = name()
    same = ("codec.scale=0.5", "alignment=pelvis", "text.dropout=0.2", "text.negative=x", "seed=4")
    assert name(*same) == first
    assert first != name("text.prompt=x") != name("text.encoder_settings.max_tokens=64")
    shutil.copytree(text_folder / "umt5", tmp_path / "umt5")
    assert name(folder=tmp_path) == first
    words = json.loads((tokens := tmp_path / "umt5" / "tokenizer" / "tokenizer.json").read_text())
    words["model"]["vocab"][5][1] -= 1.0
    tokens.write_text(json.dumps(words))
    assert name(folder=tmp_path) != first


def test_a_tokenizer_s_digest_is_not_changed_by_its_use(text_folder):
    part = prompt(text_folder, "clip")
    before = components_digest(part.frozen())
    part.features(told(part, "a person walks"))
    assert components_digest(part.frozen()) == before


def test_a_network_that_is_given_takes_the_place_of_the_files(text_folder):
    part, other = prompt(text_folder), prompt(text_folder)
    before = part.features(told(part, PROMPTS[0]))
    network = other.frozen()["text_encoder"]
    with torch.no_grad():
        network.shared.weight.mul_(2)
    part.adopt({"text_encoder": network})
    assert not torch.equal(part.features(told(part, PROMPTS[0])), before)
    with pytest.raises(HvgError, match="are 32 wide, not 16"):
        part.encoder.width = 16
        part.adopt({"text_encoder": network})


def test_shards_of_before_tell_their_captions_too(tmp_path):
    write_shard(path := tmp_path / "train-0.tar", [replace(tiny_batch(1), caption=("a man",))])
    index = json.loads(index_path(path).read_text())
    del index["texts"]
    write_index(path, index)
    assert ShardReader(path).texts == {"clip0": "a man"}


def test_a_forecast_reads_no_weights_and_counts_the_network(tiny, text_folder, tmp_path):
    folder = without(text_folder / "umt5", tmp_path, "text_encoder/model.safetensors", "tokenizer")
    config = of_text(tiny, folder)
    with fake_networks(config) as networks:
        (network,) = [x for x in networks.published() if type(x).__name__ == "UMT5EncoderModel"]
        weights = {p for p in network.parameters()}
        tokens = networks.conditioners["text"](None, fake_request(config, (1, 2, 2, 32, 32)).batch).text
        assert tokens.shape == (1, 1, 1, 512, 24)
    whole = load_file(text_folder / "umt5" / "text_encoder" / "model.safetensors")
    assert sum(p.numel() for p in weights) == sum(x.numel() for x in whole.values())


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["text=prompt", "text.encoder=umt5"], "text.path"),
        (["camera=camera_prompt", "camera.encoder=umt5"], "camera.path"),
        (["+slots.pooled.name=prompt", "slots.pooled.encoder=umt5"], "slots.pooled.path"),
    ],
)
def test_a_part_without_its_files_says_the_setting_of_its_own_slot(tiny, words, setting):
    with pytest.raises(HvgError) as error:
        build_system(compose([*tiny, *words, "backbone.cross_attention_width=24"]))
    assert str(error.value).startswith(f"{setting}: ") and "\n" not in str(error.value)
