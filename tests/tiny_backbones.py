"""The smallest settings of each registered backbone that have all ports; a new one adds its line."""

from hvg.testing.scene import SMALL_UNET

BACKBONES = {
    "svd_unet": SMALL_UNET,
    "wan_dit": {
        "width": 24,
        "heads": 2,
        "layers": 2,
        "feed_forward": 32,
        "cross_attention_width": 24,
        "frequencies": 8,
    },
    "flux_kontext": {
        "width": 24,
        "heads": 2,
        "axes": (4, 4, 4),
        "double_blocks": 1,
        "single_blocks": 1,
        "cross_attention_width": 24,
        "pooled_width": 6,
    },
}
