"""Readable labels for names from a configuration, the same in tables, charts, pictures, tooltips and sentences."""

from collections.abc import Mapping

# The photo where it is shown as the network sees it: in its size, moved by the alignment, in its own colours.
PHOTO = "photo, as seen"
# Words that are not written as the names in configurations are; two words that belong together come first.
WRITTEN = {
    "fid_vid": "FID-VID",
    "iou": "IoU",
    "jedi": "JEDi",
    "dit": "DiT",
    "dtssd": "dtSSD",
    "dvssd": "dvSSD",
    "wan": "Wan",
    **{word: word.upper() for word in ("smpl", "hvg", "gas", "svd", "clip", "psnr", "ssim", "lpips", "l1")},
    **{word: word.upper() for word in ("fid", "fvd", "kid", "kvd", "mpjpe", "pck", "iuv", "uv")},
}


def readable(name: str) -> str:
    """Label of a part, an arm, a metric or a logged quantity: ``SMPL normal`` for smpl_normal."""
    return WRITTEN.get(name) or " ".join(WRITTEN.get(word, word) for word in name.split("_"))


def arm_label(name: str, labels: Mapping[str, str]) -> str:
    """Label of an arm: as ``labels`` say, else made of its name."""
    return labels.get(name, readable(name))


def map_label(part: str, name: str) -> str:
    """Label of the map ``name`` of a part by the part's label: ``bone map depth``, but ``SMPL depth`` for that one's depth."""
    return part if name in part.split() else f"{part} {name}"
