"""Images and videos: what is written is what is read back."""

import base64
import ctypes
import struct
import zlib

import av
import numpy as np
import pytest
import torch
from footage import read_image, read_video
from PIL import Image

from hvg.core.eight_bit import alpha_to_uint8, frames_to_uint8
from hvg.core.errors import DataError
from hvg.media.images import read_image_8bit, write_png
from hvg.media.tiles import GAP, LABEL_HEIGHT, LARGEST_SIDE, tile_columns, tile_groups
from hvg.media.video import VideoWriter, video_data_uri, video_frames, write_video
from hvg.sample.grid import CELL, MOST_VIEWS, as_grid


def moving_ramp(frames: int = 5, height: int = 48, width: int = 64) -> torch.Tensor:
    """Smooth colours that change over time, (T, 3, H, W)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([torch.stack([x, y, torch.full_like(x, t / frames)]) for t in range(frames)])


@pytest.fixture
def freed_memory():
    """Says with which byte the C library fills memory that is given out or given back; 0: as it was."""
    m_perturb, library = -6, ctypes.CDLL(None)
    yield lambda byte: library.mallopt(m_perturb, byte)
    library.mallopt(m_perturb, 0)


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
def test_a_video_comes_back_with_its_frames(tmp_path, size):
    frames = moving_ramp(5, *size)
    write_video(tmp_path / "clip.mp4", frames, fps=7.5)
    found, fps = read_video(tmp_path / "clip.mp4")
    height, width = size
    assert found.shape == (5, 3, height + height % 2, width + width % 2)
    assert fps == pytest.approx(7.5)
    # 4:2:0 and the quantiser cost a few grey levels of 255.
    assert float((found[:, :, :height, :width] - frames).abs().mean()) * 127.5 < 4
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_colours_do_not_shift(tmp_path):
    colour = torch.tensor([0.8, -0.5, -0.9])[:, None, None].expand(4, 3, 64, 64)
    write_video(tmp_path / "clip.mp4", colour, fps=4)
    found, _ = read_video(tmp_path / "clip.mp4")
    assert float((found - colour).abs().max()) * 127.5 < 4


def test_a_webp_moves_for_ever_and_has_the_colours(tmp_path):
    frames = moving_ramp(5, 47, 64)
    colour = torch.tensor([0.8, -0.5, -0.9])[:, None, None]
    frames[:, :, :24, :32] = colour
    write_video(tmp_path / "clip.webp", frames, fps=8)
    with Image.open(tmp_path / "clip.webp") as found:
        assert (found.format, found.n_frames, found.size, found.info["loop"]) == ("WEBP", 5, (64, 48), 0)
        found.seek(3)
        pixels = torch.from_numpy(np.array(found.convert("RGB"))).movedim(-1, 0).float() / 127.5 - 1
        assert found.info["duration"] == 125
    assert float((pixels[:, :47] - frames[3]).abs().mean()) * 127.5 < 4
    assert float((pixels[:, 4:20, 4:28] - colour).abs().max()) * 127.5 < 6
    first = (tmp_path / "clip.webp").read_bytes()
    with VideoWriter(tmp_path / "clip.webp", 8) as video:
        video.add(frames[:2])
        video.add(frames[2:])
    assert (tmp_path / "clip.webp").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["clip.webp"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(path, moving_ramp(), fps=4)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="T > 0"):
        write_video(path, torch.zeros(0, 3, 8, 8), fps=4)
    with pytest.raises(OverflowError):
        write_video(path, moving_ramp(), fps=float("inf"))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_bytes_are_the_same_every_time(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, moving_ramp(), fps=4)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_bytes_do_not_depend_on_what_memory_held(tmp_path, freed_memory):
    """Sizes whose rows of macroblocks are not, and are, a multiple of what wide instructions take at a time."""
    found = set()
    for byte in (0, 1, 85, 170, 255):
        freed_memory(byte)
        for size in ((48, 64), (64, 96), (64, 128), (64, 528)):
            write_video(tmp_path / "clip.mp4", moving_ramp(9, *size), fps=4)
            found.add((size, (tmp_path / "clip.mp4").read_bytes()))
    assert len(found) == 4


def test_pieces_make_the_same_video_as_the_whole(tmp_path):
    frames = moving_ramp(7)
    write_video(tmp_path / "whole.mp4", frames, fps=4)
    with VideoWriter(tmp_path / "pieces.mp4", fps=4) as video:
        for piece in frames.split((1, 4, 2)):
            video.add(piece)
        assert not (tmp_path / "pieces.mp4").exists()
    assert (tmp_path / "pieces.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_an_error_between_two_pieces_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(tmp_path / "clip.mp4", fps=4) as video:
        video.add(moving_ramp(3))
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_a_png_is_exact(tmp_path):
    image = torch.arange(256).float().reshape(1, 16, 16).expand(3, -1, -1) / 127.5 - 1
    write_png(tmp_path / "image.png", image)
    found, alpha = read_image(tmp_path / "image.png")
    torch.testing.assert_close(found, image)
    assert alpha is None


def test_a_png_has_the_alpha_that_it_is_given(tmp_path):
    colours, alpha = torch.rand(3, 5, 7) * 2 - 1, torch.rand(1, 5, 7)
    write_png(tmp_path / "cutout.png", colours, alpha)
    found, cover = read_image_8bit(tmp_path / "cutout.png")
    assert torch.equal(found, frames_to_uint8(colours)) and torch.equal(cover, alpha_to_uint8(alpha))


def test_alpha_is_read_where_there_is_one(tmp_path):
    pixels = np.zeros((4, 6, 4), dtype=np.uint8)
    pixels[1:3, 2:4] = (255, 0, 128, 255)
    Image.fromarray(pixels).save(tmp_path / "person.png")
    image, alpha = read_image(tmp_path / "person.png")
    assert image.shape == (3, 4, 6) and alpha is not None and alpha.shape == (1, 4, 6)
    assert alpha.sum() == 4
    assert image[0, 1, 2] == 1.0


KINDS = [
    *((mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *((mode, "jpg") for mode in ("L", "RGB", "CMYK")),
    *((mode, "webp") for mode in ("RGB", "RGBA")),
]


@pytest.mark.parametrize(("mode", "suffix"), KINDS)
def test_every_kind_of_photo_becomes_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"photo.{suffix}"
    if mode == "I;16":
        picture = Image.fromarray(np.full((32, 48), 204 * 257, dtype=np.uint16))
    else:
        picture = Image.new("RGBA", (48, 32), (204, 204, 204, 255))
        picture.paste((204, 204, 204, 0), (0, 0, 48, 16))
        # Pillow goes to these from RGB alone.
        picture = picture.convert("RGB") if mode in ("1", "CMYK", "P") else picture
        picture = picture.convert(mode, dither=Image.Dither.NONE)
    picture.save(path)
    image, alpha = read_image(path)
    assert image.shape == (3, 32, 48)
    expected = 255 if mode == "1" else 204
    assert bool((((image[:, 20:] + 1) * 127.5 - expected).abs() < 3).all())
    if mode in ("LA", "RGBA"):
        assert alpha is not None and float(alpha.mean()) == pytest.approx(0.5, abs=0.01)
    else:
        assert alpha is None


def test_transparent_palettes_have_alpha(tmp_path):
    picture = Image.new("P", (6, 4), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "palette.png", transparency=0)
    image, alpha = read_image(tmp_path / "palette.png")
    assert alpha is not None and float(alpha.sum()) == 23 and float(image[0, 1, 1]) == 1.0


def test_a_photo_taken_upright_is_read_upright(tmp_path):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0] = 255
    picture = Image.fromarray(pixels)
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to show
    picture.save(tmp_path / "phone.png", exif=exif)
    image, _ = read_image(tmp_path / "phone.png")
    assert image.shape == (3, 6, 4)
    assert bool((image[:, :, -1] == 1).all()) and bool((image[:, :, 0] == -1).all())


def test_pixels_of_unclear_range_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 6), dtype=np.float32)).save(tmp_path / "depth.tiff")
    with pytest.raises(DataError, match=r"depth\.tiff.*8 or 16 bits"):
        read_image(tmp_path / "depth.tiff")


def test_unreadable_files_are_named_in_one_line(tmp_path):
    whole = tmp_path / "image.png"
    write_png(whole, torch.rand(3, 64, 64))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "text.png").write_text("no image")
    for reader, name in [
        (read_image, "missing.png"),
        (read_image, "cut.png"),
        (read_image, "text.png"),
        (read_video, "missing.mp4"),
        (read_video, "text.png"),
        (video_data_uri, "missing.mp4"),
    ]:
        with pytest.raises(DataError) as caught:
            reader(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [8193, 13300, 20000])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(tmp_path, recwarn, side):
    header = struct.pack(">4sIIBBBBB", b"IHDR", side, side, 1, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.png").write_bytes(png + struct.pack(">I4s", 1000, b"IDAT"))
    with pytest.raises(DataError, match=r"bomb.png: .* million.*; at most 67 million are read") as refused:
        read_image(tmp_path / "bomb.png")
    assert "\n" not in str(refused.value) and not recwarn.list


def with_matrix(path, *matrix: float):
    """Writes into an MP4 file how its video is to be shown: a, b, c, d of x' = a x + c y, y' = b x + d y, y down."""
    data = path.read_bytes()
    start = data.index(b"tkhd") + 44
    a, b, c, d = (round(x * 2**16) for x in matrix)
    path.write_bytes(data[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30) + data[start + 36 :])


def test_a_video_taken_upright_is_read_upright(tmp_path):
    path = tmp_path / "phone.mp4"
    video = -torch.ones(2, 3, 16, 32)
    video[:, :, :8] = 1
    write_video(path, video, fps=8)
    whole = read_video(path)[0]
    for matrix, turned in (
        ((0, 1, -1, 0), whole.rot90(-1, (2, 3))),
        ((-1, 0, 0, -1), whole.rot90(2, (2, 3))),
        ((0, -1, 1, 0), whole.rot90(1, (2, 3))),
    ):
        with_matrix(path, *matrix)
        assert torch.equal(read_video(path)[0], turned)
    with_matrix(path, -1, 0, 0, 1)
    with pytest.raises(DataError, match="shown mirrored"):
        read_video(path)
    with_matrix(path, 0.7, 0.7, -0.7, 0.7)
    with pytest.raises(DataError, match="expected quarter turns"):
        read_video(path)


def test_uint8_rounds_and_clamps():
    values = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 1 / 127.5])
    assert frames_to_uint8(values).tolist() == [0, 0, 128, 255, 255, 128]
    assert frames_to_uint8(values.bfloat16()).dtype == torch.uint8


def test_a_data_uri_holds_the_file(tmp_path):
    write_video(tmp_path / "clip.mp4", moving_ramp(), fps=4)
    head, _, body = video_data_uri(tmp_path / "clip.mp4").partition(",")
    assert head == "data:video/mp4;base64"
    assert base64.b64decode(body) == (tmp_path / "clip.mp4").read_bytes()


def test_tiles_have_a_column_per_entry_and_a_row_per_view():
    video = torch.full((2, 3, 3, 16, 12), -1.0)
    photo = torch.zeros(1, 1, 3, 40, 30)
    tiled = tile_columns({"photo": photo, "a label that is far too long": video}, min_cell_height=32)
    assert tiled.shape == (3, 3, 6 + 22 + 2 * 38, 6 + 2 * 30)
    assert (tiled[:, :, 28:60, 6:30] == 0).all()  # the photo stands still
    assert (tiled[:, :, 66:98, 6:30] == 1).all()  # and has no second view
    assert (tiled[:, :, 28:60, 36:60] == -1).all()
    assert (tiled[:, :, 6:28] < 0).any()  # labels
    with pytest.raises(ValueError, match="nothing"):
        tile_columns({})


def test_groups_fill_a_grid_about_as_wide_as_a_screen():
    group = {"view": torch.full((2, 3, 16, 16), -1.0), "map": torch.zeros(2, 3, 16, 16)}
    tiled = tile_groups([group] * 4, min_cell_height=32)
    # 2 x 2 groups of two cells of 32 x 32, each with its label; groups stand 12 pixels further apart.
    assert tiled.shape == (2, 3, 6 + 2 * 60, 6 + 2 * (2 * 38 + 12))
    assert (tiled[:, :, 28:60, 6:38] == -1).all() and (tiled[:, :, 28:60, 44:76] == 0).all()
    assert (tiled[:, :, 88:120, 94:126] == -1).all()
    with pytest.raises(ValueError, match="nothing"):
        tile_groups([])


def test_many_large_views_are_shrunk_to_what_players_show():
    tiled = tile_groups([{str(v): torch.zeros(1, 3, 600, 400)} for v in range(48)])
    assert max(tiled.shape[-2:]) <= LARGEST_SIDE and tiled.shape[-1] > 0.8 * LARGEST_SIDE


# --- frames are counted ---


def numbered(count: int, side: int = 32) -> torch.Tensor:
    """Frames that tell their number by the brightness of their left and right half, (T, 3, side, side)."""
    halves = torch.stack([torch.arange(count) // 16, torch.arange(count) % 16], dim=1) / 7.5 - 1
    return halves.repeat_interleave(side // 2, dim=1)[:, None, None, :].expand(count, 3, side, side)


def numbers(frames: torch.Tensor) -> list[int]:
    left, right = ((x.mean(dim=(1, 2, 3)) + 1) * 7.5 for x in frames.chunk(2, dim=-1))
    return (16 * left.round() + right.round()).int().tolist()


def test_a_grid_is_the_photo_and_views_above_what_was_told():
    photo, views = torch.full((3, 64, 64), -1.0), 3
    made = [
        {f"{v}: front": torch.full((2, 3, 64, 64), v / 2), "normal": torch.zeros(2, 3, 64, 64)} for v in range(views)
    ]
    grid = as_grid(photo, made)
    side = CELL + GAP
    assert grid.shape == (2, 3, GAP + LABEL_HEIGHT + 2 * side, GAP + (1 + views) * side)
    rows = [LABEL_HEIGHT + GAP + CELL // 2 + row * side for row in range(2)]
    columns = [GAP + CELL // 2 + column * side for column in range(1 + views)]
    cells = [[float(grid[1, 0, row, column]) for column in columns] for row in rows]
    # Below the photo there is nothing.
    assert cells == [[-1, 0, 0.5, 1], [1, 0, 0, 0]]
    assert as_grid(None, made[:1]).shape[-1] == GAP + side


def test_a_grid_of_many_or_large_views_has_as_many_as_can_be_shown():
    small = [{str(v): torch.full((1, 3, 64, 64), v / 20)} for v in range(20)]
    grid = as_grid(None, small)
    assert grid.shape[-1] == GAP + MOST_VIEWS * (CELL + GAP)
    shown = grid[0, 0, -GAP - CELL // 2, GAP + CELL // 2 :: CELL + GAP]
    torch.testing.assert_close(shown * 20, torch.tensor([0.0, 2, 5, 7, 10, 12, 15, 17]))
    large = [{str(v): torch.zeros(1, 3, 1024, 1024)} for v in range(8)]
    assert as_grid(torch.zeros(3, 1024, 1024), large).shape[-1] == GAP + 3 * (1024 + GAP) <= LARGEST_SIDE


@pytest.mark.parametrize("rate", [24000 / 1001, 25, 30000 / 1001, 30, 60000 / 1001])
def test_no_frame_is_dropped_or_doubled_at_any_rate(tmp_path, rate):
    write_video(tmp_path / "clip.mp4", numbered(240), fps=rate)
    found, told = read_video(tmp_path / "clip.mp4")
    assert numbers(found) == list(range(240)) and told == pytest.approx(rate, rel=1e-6)
    times = [time for _, time in video_frames(tmp_path / "clip.mp4")]
    assert times == pytest.approx([number / rate for number in range(240)], abs=1e-4)


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4")]
)
@pytest.mark.parametrize("sound", [False, True])
def test_a_video_that_was_cut_off_is_refused_and_a_whole_one_is_not(tmp_path, suffix, codec, sound):
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        if sound and suffix != "avi":
            # Half a second longer than the pictures.
            audio = container.add_stream("libopus", rate=48000)
            for start in range(0, 80_000, 960):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
                silence.sample_rate, silence.pts = 48000, start
                container.mux(audio.encode(silence))
            container.mux(audio.encode())
        random = np.random.default_rng(0)
        for _ in range(35):
            picture = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert sum(1 for _ in video_frames(path)) == 35
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    with pytest.raises(DataError, match=r"clip\.\w+: .*(cut off|cannot be read)"):
        list(video_frames(path))
