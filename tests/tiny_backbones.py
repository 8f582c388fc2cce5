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
}
