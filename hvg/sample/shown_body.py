"""The person of a request in every frame: the motion file's own body, or a body model's that follows the motion."""

from dataclasses import dataclass, replace

from torch import Tensor

from hvg.config.build import build_part
from hvg.config.request_words import RequestWords
from hvg.config.settings import RunConfig
from hvg.config.wiring import needed_fields
from hvg.core.required import required
from hvg.geometry.motion import Motion, resample
from hvg.parts.following import Shape, follow
from hvg.parts.scene import BodyModel
from hvg.sample.whose_shape import asked_person, choose_shape
from hvg.values.body import MESH_FIELDS, BodyMotion


@dataclass(frozen=True)
class Shown:
    """The person who is shown.

    body: (B=1). notes: what to say of them. model, shape: the body model and the build by which they were made; None where the
    body is the motion file's own.
    """

    body: BodyMotion
    notes: tuple[str, ...]
    model: BodyModel | None = None
    shape: Shape | None = None


def shown_body(
    config: RunConfig, options: RequestWords, motion: Motion, places: Tensor, *, mesh: bool, poses_photo: bool
) -> Shown:
    """The person at ``places`` (T) of the motion. mesh: with vertices. poses_photo: whether the photo's person is posed, too.

    A file's own body is taken where it has what the run's parts read of one, and nobody asks for another build; no body model
    is built then. Raises: HvgError for a shape that the body model does not have, or that nobody says.
    """
    own, note = motion.own_body, ""
    if own is not None and _is_wanted(options):
        lacking = _lacking(config, own, poses_photo)
        if not lacking:
            body = required(resample(motion, places).own_body, "own_body")
            body = with_vertices(body) if mesh else body.without_mesh()
            return Shown(body, (f"the person is the body that {options.motion} brings; no body model is built",))
        note = f"{options.motion} brings a body without {', '.join(sorted(lacking))}, which is read of it"
    model, motion = build_part(config.body), replace(motion, own_body=None)
    chosen = choose_shape(model, config.body.name, options, motion)
    body = follow(model, motion, places, chosen.shape, mesh=mesh)
    notes = (*model.notes(motion), note, chosen.note)
    return Shown(body, tuple(note for note in notes if note), model, chosen.shape)


def _is_wanted(options: RequestWords) -> bool:
    """Whether the motion's person is the one to be shown, as far as the options say it."""
    return options.shape in ("auto", "motion") and asked_person(options) is None


def _lacking(config: RunConfig, body: BodyMotion, poses_photo: bool) -> frozenset[str]:
    """What is read of a person and a file's own body has not."""
    read = frozenset[str]().union(*(fields for _, fields in needed_fields(config, training=False).values()))
    has_mesh = body.vertices is not None or body.skinning is not None
    given = {"body.vertices"} if has_mesh else set[str]()
    given |= {"body.skinning"} if body.skinning is not None else set()
    # Who is looked up in the photo is posed there, too.
    return (read & MESH_FIELDS) - given | ({"a shape"} if poses_photo else set())


def with_vertices(body: BodyMotion) -> BodyMotion:
    """The body with the vertices that its skinning gives, where it has none."""
    if body.vertices is not None or body.skinning is None:
        return body
    return replace(body, vertices=body.skinning.posed())
