"""Protocols are versioned: what a number means does not change under its name."""

import hashlib
import json

import pytest

from hvg.config.composition import compose, named_protocol
from hvg.core.shipped import CONF
from hvg.score.evaluation import protocol_record

NAMES = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml"))
# Name/version -> digest of all settings. A protocol whose numbers change gets a new version and a new line here.
DIGESTS = {
    "basic/v2": "3956d0bce3eb989a",
    "by_part/v1": "b1bde2167b6d8907",
    "disco_2023/v1": "fe2b0f864873e146",
    "disco_fixed/v1": "6971b62592a42d6a",
    "gas/v2": "c0ef04b203d98d71",
    "gas_masked/v2": "3eb52f94d8eb493d",
    "hvg/v1": "03f2e513c29034b7",
    "modern/v2": "18bf3e5963ad8d2f",
}


def digest(name: str) -> str:
    protocol = compose([f"protocol={name}"]).protocol
    settings = {key: protocol.resolved()[key] for key in ("mask", "size_mismatch", "metrics")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", NAMES)
def test_settings_of_a_version_do_not_change(name):
    protocol = compose([f"protocol={name}"]).protocol
    assert protocol.name == name
    assert DIGESTS.get(protocol.id) == digest(name), "settings changed: raise `version` and add the new digest"


def test_the_protocols_of_the_papers_are_there():
    assert {"disco_2023", "disco_fixed", "hvg", "gas", "modern"} <= set(NAMES)


def test_the_two_disco_protocols_differ_in_the_arithmetic_of_psnr_alone():
    old, new = (compose([f"protocol={name}"]).protocol.resolved() for name in ("disco_2023", "disco_fixed"))
    assert old["metrics"]["psnr"].pop("arithmetic") == "uint8_wraparound"
    assert new["metrics"]["psnr"].pop("arithmetic") == "float"
    assert old["metrics"] == new["metrics"]
    assert (old["mask"], old["size_mismatch"]) == (new["mask"], new["size_mismatch"]) == ("none", "resize")


def test_a_changed_setting_shows_in_the_id():
    assert protocol_record(compose(["protocol=hvg"]).protocol)["id"] == "hvg/v1"
    changed = compose(["protocol=hvg", "protocol.metrics.fvd.stride=8"]).protocol
    assert protocol_record(changed)["id"] == "hvg/v1+changes"
    assert changed.metrics["fvd"].config.stride == 8


def test_a_protocol_of_no_name_is_none():
    assert named_protocol("no_such_protocol") is None


def test_metrics_are_added_and_left_out_on_the_command_line():
    words = ["protocol=basic", "+protocol.metrics.kid.name=kid", "~protocol.metrics.l1"]
    labels = list(compose(words).protocol.metrics)
    assert "kid" in labels and "l1" not in labels and "psnr" in labels
