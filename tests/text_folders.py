"""Tokenizers and encoders of text in the layout of diffusers' pipelines: the true classes, small, with random weights."""

import string
from pathlib import Path

import torch

# Width of their tokens.
WIDTH = 32
WORDS = ("a", "person", "walks", "waves", "in", "red", "coat", "blue", "shirt")


def save_text_folders(folder: Path) -> None:
    """Writes ``umt5/``, ``t5/`` and ``clip/``, each with ``tokenizer/`` and ``text_encoder/``."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    pieces, small = t5_tokenizer(), {"d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    clip = clip_tokenizer()
    clip_config = CLIPTextConfig(
        vocab_size=len(clip),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=clip.bos_token_id,
        eos_token_id=clip.eos_token_id,
        pad_token_id=clip.pad_token_id,
    )
    found = {
        "umt5": (pieces, UMT5EncoderModel(UMT5Config(vocab_size=len(pieces), **small))),
        "t5": (pieces, T5EncoderModel(T5Config(vocab_size=len(pieces), **small))),
        "clip": (clip, CLIPTextModel(clip_config)),
    }
    for name, (tokenizer, network) in found.items():
        tokenizer.save_pretrained(folder / name / "tokenizer")
        network.save_pretrained(folder / name / "text_encoder")


def t5_tokenizer():
    """Pieces of letters and of a few words, as T5's and UMT5's: 0 fills up, 1 ends, 2 is unknown."""
    from transformers import T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -1.0) for word in WORDS]
    pieces += [(letter, -4.0) for letter in string.ascii_letters + string.digits + string.punctuation]
    pieces += [(f"<extra_id_{i}>", 0.0) for i in (1, 0)]
    return T5Tokenizer(vocab=pieces, extra_ids=2)


def clip_tokenizer():
    """Letters alone, as CLIP's without merges."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[], model_max_length=77)
