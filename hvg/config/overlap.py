"""Overlap of the people and clips that a model learned from with those it is scored on. No picture is read."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from hvg.config.build import split_config
from hvg.config.settings import PartChoice
from hvg.core.errors import ConfigError
from hvg.parts.scene import Dataset, Holdings

SPLITS = ("train", "val", "test")
MOST_NAMED = 3


@dataclass(frozen=True)
class Overlap:
    """shared: what of a split is in an earlier one too. unknown: what cannot be told, and why. truth: where the pictures that
    scores compare with are not those that were taken. A line each.
    """

    shared: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """Notes for the reader of a score: overlaps that were found or could not be ruled out, and what became of the truth."""
        return [*self.shared, *self.unknown, *self.truth]

    @property
    def refusal(self) -> str:
        """Why a score would not be what it seems, and what can be done; one line."""
        return (
            f"{'; '.join(self.shared)}: a score would not be of people that are new to the model; give each split people of "
            "its own, or say evaluation.overlap=allow, and every record and report tells of it"
        )


def overlap(
    trained: PartChoice[Dataset], scored: PartChoice[Dataset] | None = None, splits: Sequence[str] = ("val", "test")
) -> Overlap:
    """People and clips that ``splits`` of the dataset ``scored`` share with the splits before them of ``trained``.

    scored: None for the same dataset. What a model is tuned on counts as what it has seen: test is compared with train and
    val. Raises: DataError for files that are damaged or missing.
    """
    shared: list[str] = []
    unknown: list[str] = []
    truth: list[str] = []
    for split in splits:
        own = _holdings(scored or trained, split)
        if own.lossy:
            truth.append(f"pictures of {split} are kept with loss ({own.lossy}); scores compare with those")
        for earlier in SPLITS[: SPLITS.index(split)] if own.subjects or own.digests else ():
            other = _holdings(trained, earlier)
            shared += _shared(own, split, other, earlier)
            if earlier == "train" and not other.subjects:
                why = "; ".join(other.notes) or f"the dataset '{trained.name}' does not tell its subjects"
                unknown.append(f"whether subjects of {split} are in train is not known: {why}")
    return Overlap(tuple(shared), tuple(unknown), tuple(truth))


def dataset_notes(choice: PartChoice[Dataset]) -> list[str]:
    """Notes for the user on a dataset that a run is to train on, a line each. Raises: as ``overlap``."""
    return [*choice.cls.holdings(choice.config).notes, *overlap(choice).lines]


def _holdings(choice: PartChoice[Dataset], split: str) -> Holdings:
    try:
        return choice.cls.holdings(split_config(choice, split))
    except ConfigError:
        # A dataset without the split is a problem of its own (hvg.config.checks).
        return Holdings()


def _shared(own: Holdings, split: str, other: Holdings, earlier: str) -> Iterator[str]:
    subjects, known = dict.fromkeys(own.subjects.values()), {*other.subjects.values()}
    same = [subject for subject in subjects if subject in known]
    if same:
        yield f"{len(same)} of {len(subjects)} subjects of {split} are in {earlier} too ({_first(same)})"
    clips = {digest: clip for clip, digest in other.digests.items()}
    copies = {clip: clips[digest] for clip, digest in own.digests.items() if digest in clips}
    if copies:
        named = _first([f"{clip} has those of {copy}" if clip != copy else clip for clip, copy in copies.items()])
        yield f"{len(copies)} of {len(own.digests)} clips of {split} have the frames of clips of {earlier} ({named})"


def _first(names: Collection[str]) -> str:
    return ", ".join([*list(names)[:MOST_NAMED], *(["..."] if len(names) > MOST_NAMED else [])])
