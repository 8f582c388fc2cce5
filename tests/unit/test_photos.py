"""Photos as people have them: every kind of file gives the person that its owner sees, or a line that says why not."""

import numpy as np
import pytest
import torch
from PIL import Image

from hvg.core.errors import DataError
from hvg.media.images import picture_size, read_image_8bit
from hvg.media.photo import load_photo

WHITE = (1.0, 1.0, 1.0)
# Top left red, top right green, bottom left blue, bottom right grey.
CORNERS = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [120, 120, 120]]], np.uint8)


def corners(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture of four colours, (H, W, 3)."""
    return CORNERS.repeat(height // 2, axis=0).repeat(width // 2, axis=1)


def placed(path, size=(48, 48)) -> torch.Tensor:
    """The photo as a network sees it, (3, H, W) in 0..255."""
    reference, _ = load_photo(path, size, fraction=0.9, box=None, background=WHITE)
    return (reference.frames[0, 0] + 1) * 127.5


# Orientation tag -> what was done to the picture before it was stored, so that the tag undoes it.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize(("orientation", "stored"), STORED.items())
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_every_orientation_is_read_as_it_is_shown(tmp_path, orientation, stored, suffix):
    picture = Image.fromarray(corners())
    lying = picture if stored is None else picture.transpose(stored)
    exif = lying.getexif()
    exif[0x0112] = orientation
    path = tmp_path / f"phone.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    lying.save(path, exif=exif, **lossless)
    pixels, alpha = read_image_8bit(path)
    assert alpha is None and picture_size(path) == (40, 60) == tuple(pixels.shape[1:])
    assert np.abs(pixels.movedim(0, -1).numpy().astype(int) - corners()).max() <= 3


def test_colours_hidden_under_alpha_are_kept_and_do_not_bleed_in(tmp_path):
    pixels = np.concatenate([corners(), np.zeros((40, 60, 1), np.uint8)], axis=-1)
    pixels[10:30, 20:40, :3], pixels[10:30, 20:40, 3] = (90, 60, 30), 255
    Image.fromarray(pixels).save(tmp_path / "cutout.png")
    colours, alpha = read_image_8bit(tmp_path / "cutout.png")
    assert torch.equal(colours.movedim(0, -1), torch.from_numpy(pixels[..., :3].copy()))
    assert alpha is not None and int((alpha == 255).sum()) == 400
    seen = placed(tmp_path / "cutout.png").flatten(1)
    on_line = (seen - torch.tensor([90.0, 60, 30])[:, None]) / (255 - torch.tensor([90.0, 60, 30]))[:, None]
    # Every pixel is the person, the white behind, or a mixture of the two.
    assert float((on_line - on_line.mean(dim=0)).abs().max()) < 0.02 and float(on_line.min()) > -0.02


def test_grey_with_alpha_is_grey_with_alpha(tmp_path):
    pixels = np.zeros((40, 60, 2), np.uint8)
    pixels[10:30, 20:40] = (77, 255)
    Image.fromarray(pixels, "LA").save(tmp_path / "la.png")
    colours, alpha = read_image_8bit(tmp_path / "la.png")
    assert colours[:, 15, 30].tolist() == [77, 77, 77] and alpha is not None and int(alpha.sum()) == 400 * 255
    assert placed(tmp_path / "la.png")[:, 24, 24].round().tolist() == [77, 77, 77]


@pytest.mark.parametrize("transparent", [False, True])
def test_a_palette_is_its_colours(tmp_path, transparent):
    picture = Image.fromarray(corners()).quantize(4)
    place = picture.getpixel((1, 1))
    picture.save(tmp_path / "palette.png", **({"transparency": place} if transparent else {}))
    colours, alpha = read_image_8bit(tmp_path / "palette.png")
    assert np.abs(colours.movedim(0, -1).numpy().astype(int) - corners()).max() <= 2
    assert (alpha is not None) is transparent
    if alpha is not None:
        assert int((alpha == 0).sum()) == 600


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_become_eight_by_their_range(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 40 * 60).round().astype(np.uint16).reshape(40, 60)
    Image.fromarray(ramp).save(tmp_path / f"deep.{suffix}")
    colours, _ = read_image_8bit(tmp_path / f"deep.{suffix}")
    expected = torch.from_numpy((ramp / 257).round().astype(np.uint8))
    assert torch.equal(colours, expected.expand(3, 40, 60))


def test_cmyk_is_its_colours_and_grey_is_grey(tmp_path):
    Image.fromarray(corners()).convert("CMYK").save(tmp_path / "print.jpg", quality=100, subsampling=0)
    colours, alpha = read_image_8bit(tmp_path / "print.jpg")
    assert alpha is None and np.abs(colours.movedim(0, -1).numpy().astype(int) - corners()).max() <= 4
    grey = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    colours, _ = read_image_8bit(tmp_path / "grey.png")
    assert torch.equal(colours, torch.from_numpy(grey).expand(3, 40, 60))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 3)])
def test_a_tiny_photo_is_its_colours(tmp_path, size):
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "tiny.png")
    seen = placed(tmp_path / "tiny.png")
    assert seen.shape == (3, 48, 48)
    assert seen[:, 24, 24].round().tolist() == [200, 100, 50]
    assert bool(((seen - seen[:, 24, 24, None, None]).abs().amax(dim=0) < 1).any())


def test_a_huge_photo_is_seen_whole(tmp_path):
    Image.fromarray(corners(3000, 4000)).save(tmp_path / "huge.jpg", quality=90)
    seen = placed(tmp_path / "huge.jpg", (32, 32))
    # 32 x 24 in the middle: a corner of each colour, white above and below.
    for row, column, colour in (
        (9, 8, CORNERS[0, 0]),
        (9, 24, CORNERS[0, 1]),
        (22, 8, CORNERS[1, 0]),
        (22, 24, CORNERS[1, 1]),
    ):
        assert np.abs(seen[:, row, column].numpy() - colour).max() < 4
    assert bool((seen[:, :3] > 254).all())


def test_a_photo_without_anybody_is_named(tmp_path):
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "empty.png")
    with pytest.raises(DataError, match=r"empty\.png: the alpha channel covers nothing"):
        placed(tmp_path / "empty.png")
