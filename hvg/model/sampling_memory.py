"""Memory of the host that sampling a clip takes, as far as it grows with the clip."""

from hvg.model.trained_system import MESH_BYTES
from hvg.parts.model import Codec
from hvg.values.latent_time import latent_frames

# Float32 copies at the fullest moment of sampling. Pictures: as the codec gives them, put together, clamped, moved back. Latents:
# noise, the point reached, its estimate, the windows' estimates and their blend. Control maps: drawn, as stored, as a picture,
# on the canvas.
DECODED_COPIES, LATENT_COPIES, MAP_COPIES = 4, 6, 4
# With guidance, besides: a branch's estimate, and what the branches add up to. Of several branches one is denoised after another.
GUIDED_COPIES = 2


def sampled_bytes(
    size: tuple[int, int, tuple[int, int]], codec: Codec, *, guided: bool, map_channels: int, mesh: bool
) -> int:
    """As of ``TrainedSystem.sampling_bytes``. size: views, frames, and (height, width) of a picture. map_channels: of all control
    maps. mesh: whether a step needs the body's.
    """
    views, frames, (height, width) = size
    pixels, cells = height * width, (height // codec.stride) * (width // codec.stride)
    copies = LATENT_COPIES + GUIDED_COPIES * guided
    latents = 4 * copies * views * latent_frames(frames, codec.temporal_stride) * codec.channels * cells
    bodies = MESH_BYTES * frames if mesh else 0
    piece = min(frames, codec.decode_chunk * codec.temporal_stride)
    # Denoising and writing follow each other; the latents stay.
    return latents + bodies + 4 * views * pixels * (DECODED_COPIES * 3 * piece + MAP_COPIES * map_channels)
