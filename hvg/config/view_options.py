"""Options of ``hvg view``: the words of ``hvg show`` for a clip, those of ``hvg sample`` for a motion and cameras."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from hvg.config.clip_words import ClipWords
from hvg.config.request_words import RequestWords
from hvg.core.bounds import Seed

Port = Annotated[int, Field(ge=0, le=65_535)]
# Words of a clip; and those that say how the person of a sample moves, whose cameras are in its cameras.json.
OF_CLIPS = ("index", "split")
OF_MOTION = (
    *("motion", "convention", "person", "up", "start", "end", "stride", "real_time", "frames_per_second"),
    *("shape", "reference_body", "reference_betas", "reference_height"),
)


class ViewOptions(ClipWords, RequestWords):
    """Options of ``hvg view``, besides overrides."""

    motion: Path | None = Field(
        None,
        description="What `hvg sample` would be asked instead of a clip: an .npz of body parameters (AMASS, smplx, EasyMocap) or "
        "of joints, a .bvh, or a folder of EasyMocap's JSON. null, beside other words of a request: somebody who stands.",
    )
    checkpoint: Path | None = Field(
        None,
        description="A trained model whose request it is: framed as in its training, by its body model; or a run folder for its "
        "newest checkpoint. null: as dataset= and body= say.",
    )
    sample: Path | None = Field(
        None,
        description="A folder that `hvg sample` wrote: its cameras with what they show, and the person, where the motion and the "
        "checkpoint are still there, or motion= and checkpoint= say where they are now.",
    )
    frames_per_second: float = Field(8.0, ge=0.1, le=240, description="As fast as it plays; of a clip as its data say.")
    seed: Seed | None = Field(None, description="Of the data, as for `hvg show`, and of the unrest of shake_degrees.")
    port: Port = Field(8080, description="Port of the page; where it is taken, the next free one; 0: any.")
    host: str = Field(
        "127.0.0.1",
        description="Address that the page listens at. 0.0.0.0: all of them, for others in the network to see.",
    )
    out: Path = Field(Path("cameras.json"), description="File that the page's button saves the cameras to.")
    overwrite: bool = Field(False, description="Replace `out` if it is there.")

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> "ViewOptions":
        clip, given = self._said(OF_CLIPS), set(RequestWords.model_fields) - set(OF_MOTION)
        if clip and (self.sample is not None or self.is_request):
            raise ValueError(
                f"{clip} is of a clip, and other words are of a sample or a request; give one or the other"
            )
        if self.sample is not None and (said := self._said(given)):
            raise ValueError(f"{said} is of a request; a sample has its own cameras, in its cameras.json")
        return self

    def _said(self, names: Iterable[str]) -> str:
        """Those of these words that were given."""
        return " ".join(f"{name}=" for name in sorted(names) if name in self.model_fields_set)

    @property
    def is_request(self) -> bool:
        """Whether what `hvg sample` would be asked is shown."""
        words = {*RequestWords.model_fields, "checkpoint"} - {"frames_per_second"}
        return self.sample is None and bool(words & self.model_fields_set)

    @property
    def overrides(self) -> list[str]:
        """What the options ask of a run's configuration."""
        return [] if self.seed is None else [f"seed={self.seed}"]
