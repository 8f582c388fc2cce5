"""Which frames of a video a latent frame stands for.

Codecs with a temporal stride s are causal, as Wan's VAE: latent frame 0 stands for frame 0 alone, latent frame k for frames
(k - 1) s + 1 to k s. Videos of s n + 1 frames have n + 1 latent frames; others are padded at the end with their last frame.
With a stride of 1 every latent frame is a frame.
"""

from collections.abc import Sequence


def latent_frames(frames: int, stride: int) -> int:
    """Number t of latent frames of a video of T frames."""
    return 1 + -(-(frames - 1) // stride)


def padded_frames(frames: int, stride: int) -> int:
    """Number of frames that latents of a video of T frames are decoded to: T, and what it was padded with."""
    return 1 + (latent_frames(frames, stride) - 1) * stride


def latent_of_frames(frames: int, stride: int) -> list[int]:
    """The latent frame that each of the T frames of a video belongs to."""
    return [-(-frame // stride) for frame in range(frames)]


def grouped_frames(latents: Sequence[int], frames: int, stride: int) -> list[int]:
    """The frames that latent frames stand for, ``stride`` for each of them: frame 0 so many times for latent frame 0.

    latents: indices into the video's latent frames, in any order. frames: T of the video; frames behind its end are its last.
    """
    return [min(max((k - 1) * stride + i + 1, 0), frames - 1) for k in latents for i in range(stride)]
