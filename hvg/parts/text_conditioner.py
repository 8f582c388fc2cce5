"""Base of the conditioners of what is said of a clip."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar

from typing_extensions import TypeVar

from hvg.core.required import required
from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.values.clip import ClipBatch, Within

TextT = TypeVar("TextT", bound=ConditionerConfig, default=ConditionerConfig)


class TextConditioner(Conditioner[TextT]):
    """A conditioner of one text a clip, which gives the same for every view and frame.

    Its frozen features, where it has some, are of that text and nothing else, so that they are kept by it.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"caption"})

    @classmethod
    def once_per(cls, config: TextT, first_view: Within = "grid") -> OncePer:
        return "clip"

    @classmethod
    def hears(cls, config: TextT) -> bool:
        """Whether what it reads depends on captions, needed or not."""
        return True

    @abstractmethod
    def text_of(self, caption: str, clip: str) -> str:
        """The text that it reads of a clip with this caption, "" for none. Raises: DataError, naming the clip, for another."""

    def texts(self, batch: ClipBatch) -> list[str]:
        """The text of every clip. Raises: as of ``text_of``; HvgError where captions are needed, and the batch has none."""
        needed = "caption" in self.needs(self.config)
        if needed:
            required(batch.caption, "ClipBatch.caption")
        captions = batch.caption or ("",) * len(batch.clip_id)
        return [self.text_of(*both) for both in zip(captions, batch.clip_id, strict=True)]


def check_captions(conditioners: Iterable[Conditioner], captions: Mapping[str, str]) -> None:
    """Raises: DataError for the first clip, of clip id -> caption, that one of them cannot read; asked before any work."""
    for part in conditioners:
        if isinstance(part, TextConditioner):
            for clip, caption in captions.items():
                part.text_of(caption, clip)
