"""Base of the conditioners that tell what the person looks like: by a photo, to all views or to the first alone."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor
from typing_extensions import TypeVar

from hvg.core.errors import DataError
from hvg.core.required import required
from hvg.parts.model import Conditioner, ConditionerConfig, OncePer
from hvg.values.clip import ClipBatch, Within


class PhotoConfig(ConditionerConfig):
    """Settings of every conditioner that looks at the photo."""

    views: Literal["all", "first"] = Field(
        "all",
        description="Who is told what the photo shows. first: the first view of the clip or request alone; the others, and a "
        "window without it, get what a dropped photo gives, and hear of it from the first by view attention alone.",
    )
    photos: int = Field(
        1,
        ge=1,
        le=16,
        description="How many of the photos of a person it looks at, the first ones, such as 2 for front and back.",
    )


PhotoT = TypeVar("PhotoT", bound=PhotoConfig, default=PhotoConfig)


class PhotoConditioner(Conditioner[PhotoT]):
    """A conditioner of the reference photos, which gives the same for every view and frame that is told."""

    requires: ClassVar[frozenset[str]] = frozenset({"reference"})
    encoder_settings: ClassVar[frozenset[str]] = frozenset({"views"})

    @classmethod
    def once_per(cls, config: PhotoT, first_view: Within = "grid") -> OncePer:
        return "clip"

    @classmethod
    def num_photos(cls, config: PhotoT) -> int:
        return config.photos

    def photos(self, batch: ClipBatch) -> Tensor:
        """The P photos that it looks at, (B, P, 3, H, W). Raises: DataError, naming a clip, where there are fewer."""
        frames = required(batch.reference, "ClipBatch.reference").frames
        if frames.shape[1] < self.config.photos:
            raise DataError(
                f"clip '{batch.clip_id[0]}' has {frames.shape[1]} photo(s) of its person, and {self.config.photos} are looked at "
                "(photos)"
            )
        return frames[:, : self.config.photos]

    def told(self, batch: ClipBatch) -> Tensor | None:
        return None if self.config.views == "all" else batch.view_grid().view_index == 0
