"""UMT5's encoder, which Wan reads text with."""

from ..nn.published_text import PublishedText


class Umt5(PublishedText):
    """Tokens of a text up to its end of sequence, and zeros beyond it, 512 in all, as Wan has them.

    Source: UMT5 (arXiv 2304.09151); ``WanPipeline`` of diffusers, which fills texts up to 512 before the network and masks what
    it filled up: the same numbers up to rounding.
    """

    network = "UMT5EncoderModel"
    tokenizer = "T5Tokenizer"
