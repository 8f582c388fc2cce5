"""T5's encoder, which LTX-Video and CogVideoX read text with."""

from ..nn.published_text import PublishedText


class T5(PublishedText):
    """Tokens of a text up to its end of sequence, and zeros beyond it. Source: T5 (arXiv 1910.10683)."""

    network = "T5EncoderModel"
    tokenizer = "T5Tokenizer"
