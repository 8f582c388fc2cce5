"""Whose shape the person has who is shown: the photo's, the motion's, or the body model's mean one.

A file of a person is an ``.npz`` (``betas``, ``gender``, ``scale``, ``height``, as systems that fit bodies to photos write
them), or JSON or YAML::

    {"height": 1.72, "betas": [0.3, -1.1], "gender": "female"}       # a body of the SMPL family
    {"height": 1.72, "shape": {"weight": 0.7, "gender": 0.2}}        # any body: its shape by the model's own names

``height`` is the stature in metres; each may be left out. Betas are those of the model that ``body=`` names.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hvg.config.parsing import read_yaml
from hvg.config.request_words import MOST_BETAS, Beta, RequestWords, Stature
from hvg.core.arrays import read_archive
from hvg.core.errors import DataError, HvgError
from hvg.core.files import read_text
from hvg.geometry.body_conventions import CONVENTIONS, Family, Gender, GivenBody
from hvg.geometry.motion import Motion
from hvg.geometry.motion_arrays import text
from hvg.parts.following import STILL, Shape
from hvg.parts.scene import BodyModel

_SUFFIXES = (".json", ".yaml", ".yml")


class Person(BaseModel):
    """What is known of a person's shape; this module says what the values are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    height: Stature | None = None
    betas: tuple[Beta, ...] = Field(default=(), max_length=MOST_BETAS)
    gender: Gender | None = None
    scale: float | None = Field(default=None, gt=0.01, le=100)
    shape: dict[str, float] = Field(default_factory=dict, max_length=MOST_BETAS)


@dataclass(frozen=True)
class Chosen:
    """A shape, and a sentence on whose it is."""

    shape: Shape
    note: str


def read_person(path: Path) -> Person:
    """The person in a file. Raises: DataError, one line that names it, what was found and what was expected."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; expected an .npz, .json or .yaml of a person's shape")
    found = _tree(path) if path.suffix in _SUFFIXES else _arrays(path)
    try:
        person = Person.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {place}: {first['msg']}; a person has {', '.join(Person.model_fields)}") from None
    if person == Person():
        raise DataError(f"{path}: says nothing of a person; expected some of {', '.join(Person.model_fields)}")
    return person


def _tree(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(read_text(path))
    except yaml.YAMLError as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise DataError(f"{path}: holds no names with values; expected some of {', '.join(Person.model_fields)}")
    return tree


def _arrays(path: Path) -> dict[str, Any]:
    """Of an ``.npz``; betas of several frames are averaged."""
    try:
        arrays = read_archive(path, {"betas", "gender", "scale", "height"})
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: {' '.join(str(error).split())}; expected an .npz with betas") from error
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        if name == "gender":
            found[name] = "".join(map(text, array.reshape(-1)[:1].tolist()))
        elif array.dtype.kind not in "iuf" or array.ndim > 2 or not array.size:
            raise DataError(f"{path}: '{name}' has shape {array.shape} and type {array.dtype}; expected numbers")
        elif name == "betas":
            found[name] = (
                tuple(array.reshape(-1, array.shape[-1]).mean(axis=0).tolist()) if array.ndim else (float(array),)
            )
        else:
            found[name] = float(array.mean())
    return found


def asked_person(options: RequestWords) -> Person | None:
    """What the options say of the photo's person; None where they say nothing.

    Raises: HvgError for options that contradict each other, DataError for a file.
    """
    given = {"reference_body": options.reference_body, "reference_betas": options.reference_betas}
    given |= {"reference_height": options.reference_height}
    names = [name for name, value in given.items() if value is not None]
    if options.shape in ("motion", "mean") and names:
        raise HvgError(f"shape={options.shape} and {names[0]}= both say who is shown; give one, or shape=reference")
    if options.shape == "reference" and not names:
        raise HvgError(f"shape=reference: nothing says how the photo's person is built; give one of {', '.join(given)}")
    person = Person() if options.reference_body is None else read_person(options.reference_body)
    if person.betas and options.reference_betas is not None:
        raise HvgError(f"reference_betas= and {options.reference_body} both say betas; give one")
    told = {"betas": options.reference_betas, "height": options.reference_height}
    person = person.model_copy(update={name: value for name, value in told.items() if value is not None})
    return person if names else None


def choose_shape(body: BodyModel, name: str, options: RequestWords, motion: Motion) -> Chosen:
    """The shape of the person who is shown. name: of the body model.

    Raises: HvgError for a shape that the model does not have, or that nobody says.
    """
    person = asked_person(options)
    if person is not None:
        shape, more = _photos_shape(body, name, person)
        return Chosen(shape, f"the person is built as the photo's is said to be, {_tall(body, shape)}{more}")
    own = None if options.shape == "mean" else body.told_shape(motion)
    if options.shape == "motion" and own is None:
        raise HvgError(
            f"shape=motion: {options.motion} does not say how its person is built in terms of body={name}; "
            "give shape=mean, or reference_height="
        )
    known = "reference_height= or reference_body= says how the photo's is"
    if own:
        return Chosen(own, f"the person is built as the motion's, {_tall(body, own)}; {known}")
    return Chosen({}, f"the person is built as the mean one of body={name}, {_tall(body, {})}; {known}")


def _photos_shape(body: BodyModel, name: str, person: Person) -> tuple[dict[str, float], str]:
    """The shape, and what else is to be said of it."""
    shape, more = dict(person.shape), ""
    if person.betas or person.scale is not None:
        values = {"betas": torch.tensor([person.betas]), "scale": torch.tensor([person.scale or 1.0])}
        family: Any = name
        given = GivenBody(family=family, gender=person.gender, convention=CONVENTIONS["smplx_flat"], values=values)
        own = body.told_shape(replace(STILL, body=given)) if name in get_args(Family) else None
        if own is None:
            raise HvgError(
                f"body={name} has no betas; say the photo's person by reference_height=, or by 'shape' in a file"
            )
        shape |= own
        kept = sum(key.startswith("beta_") for key in own)
        if kept < len(person.betas):
            more = f" (the model has {kept} betas; the other {len(person.betas) - kept} were left out)"
    has = getattr(body.config, "gender", None)
    if person.gender not in (None, has):
        of = f"body.gender is {has}" if has else f"body={name} has no models of one gender"
        more += f" (the photo's person is {person.gender}, {of})"
    if person.height is not None:
        shape = body.of_stature(shape, person.height)
    return shape, more


def _tall(body: BodyModel, shape: Shape) -> str:
    stand = body.animate(STILL, shape, mesh=False)
    return f"{float(stand.place('head_top')[0, 0, 1]):.2f} m tall"
