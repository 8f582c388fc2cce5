"""From folders of PNGs to the numbers of the original DisCo code, through the command line."""

import json

import numpy as np
import pytest
from golden_networks import write_network_files
from PIL import Image

DATA = "tests/data/metrics"


@pytest.mark.long
def test_folders_score_as_the_original_script_does(hvg, tmp_path, request):
    data = request.config.rootpath / DATA
    frames = np.load(data / "inputs_frames.npz", allow_pickle=False)
    for side, key in (("made", "gen"), ("truth", "gt")):
        (tmp_path / side).mkdir()
        for name, pixels in zip(frames["names"], frames[key], strict=True):
            Image.fromarray(pixels).save(tmp_path / side / str(name))
    write_network_files(tmp_path / "networks", ["i3d", "resnet3d50", "inception", "vgg16"])
    done = hvg(
        "evaluate",
        f"predictions={tmp_path / 'made'}",
        f"reference={tmp_path / 'truth'}",
        "protocol=disco_2023",
        f"evaluation.networks={tmp_path / 'networks'}",
        "evaluation.any_network=true",
        # The truth as a prediction would be half as much work again.
        "anchors=none",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("protocol disco_2023/v1\n")
    record = json.loads((tmp_path / "made-disco_2023" / "results.json").read_text())
    values, golden = record["values"], json.loads((data / "distances.json").read_text())["distances"]
    for label, name in (("fid_vid", "FID-VID"), ("fvd", "FVD")):
        assert values[label]["value"] == pytest.approx(golden[name]["reference"]["value"], rel=2e-5)
        assert (values[label]["count"], values[label]["counted"]) == (golden[name]["n"], "16-frame clips")
    assert values["psnr"]["value"] >= 24.07
    assert all(value["networks"] for label, value in values.items() if label in ("fid", "fid_vid", "fvd", "lpips"))
    assert all(value["unavailable"] is None for value in values.values())
