"""What a rank's real objects hold when a job is built on shapes, against the forecast; and under real processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from forks import Started

from hvg.config.composition import compose
from hvg.core.errors import HvgError
from hvg.cost.dry_run import holdings
from hvg.cost.forecast import Forecast, forecast
from hvg.model.fake_step import fake_request, step_shape
from hvg.train import shares
from hvg.train.shares import share
from hvg.values.tensors import tensors_of

ROOT = Path(__file__).resolve().parents[2]
BASE = ("scale=cpu", "debug=tiny", "dataset.image_size=32", "training.precision=bf16")
# What is quick is built smaller still.
SMALL = ("backbone.widths=[32,32]", "backbone.heads=[1,1]", "data.views=2", "data.frames=2")
ZERO = ("zero1", "zero2", "zero3")


def sent_copies(predicted: Forecast) -> int:
    """Bytes of the copies of what DeepSpeed sends, in float32 and bf16: there in passing, so not at every look."""
    return 6 * predicted.counts.sizes.elements


def compared(rank: int, ranks: int, *overrides: str):
    config = compose([*BASE, *overrides])
    predicted = forecast(config, ranks)
    held = holdings(config, rank, ranks)
    expected = share(config.strategy, predicted.counts.sizes, ranks, config.training.accumulate, rank)
    for kind in ("weights", "copies", "optimizer", "average", "gradients"):
        assert getattr(held.share, kind) == pytest.approx(getattr(expected, kind), rel=0.01), kind
    copies = sent_copies(predicted) if config.strategy.name in ZERO else 0
    # What the data take comes on top of a forecast, and is seen where what trains is small.
    data = sum(x.nbytes for x in tensors_of(fake_request(config, step_shape(config)).batch))
    assert held.peak == pytest.approx(predicted.total + data, abs=0.05 * predicted.total + copies)
    return held, expected, predicted


@pytest.mark.long
def test_ddp_holds_and_sends_what_is_forecast():
    held, expected, predicted = compared(3, 4, *SMALL, "strategy=ddp")
    assert held.share.buckets == expected.buckets == held.share.gradients
    assert held.sent == predicted.traffic.bytes


@pytest.mark.long
@pytest.mark.parametrize("ranks", [4, 32])
def test_fsdp_holds_and_sends_what_is_forecast(ranks):
    """The first process: the last rows of a weight may be fewer."""
    held, _, predicted = compared(0, ranks, *SMALL, "strategy=fsdp")
    assert held.sent == pytest.approx(predicted.traffic.bytes, rel=0.01)


@pytest.mark.long
def test_dry_run_trains_nothing_and_writes_nothing(tmp_path):
    result = command(tmp_path, *SMALL, "dry_run=1", "strategy=single")
    assert result.returncode == 0, result.stderr
    assert "built and stepped on shapes" in result.stdout and "Nothing was trained or written" in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_dry_run_refuses_what_it_cannot_show(tmp_path):
    assert "not on 32" in command(tmp_path, "dry_run=32", "strategy=single").stderr
    offloaded = command(tmp_path, "dry_run=4", "strategy=zero2", "strategy.offload=optimizer")
    assert offloaded.returncode == 1 and "dry_run has no GPU to offload from" in offloaded.stderr


@pytest.mark.long
def test_a_rank_that_cannot_be_built_is_one_line():
    config = compose([*BASE, "strategy=ddp"])
    with pytest.raises(HvgError, match="rank 4 of 4 cannot be built"):
        holdings(config, 4, 4)


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return Started("hvg.cli", "train", *BASE, *words, cwd=folder).finish()


@pytest.mark.long
@pytest.mark.parametrize("name", ZERO)
@pytest.mark.parametrize(("rank", "ranks"), [(3, 4), (31, 32)])
def test_zero_holds_and_sends_what_is_forecast(name, rank, ranks):
    held, expected, predicted = compared(rank, ranks, f"strategy={name}")
    assert held.share.buckets == pytest.approx(expected.buckets, rel=0.01, abs=sent_copies(predicted))
    small = 4 * sum(size for size in predicted.counts.sizes.trained if size <= shares.PERSISTENT)
    # The first step of zero3 gathers small weights, which stay, more than once.
    first = 1.1 * small if name == "zero3" else 0
    assert predicted.traffic.bytes * 0.99 <= held.sent <= predicted.traffic.bytes * 1.01 + first
    if name == "zero3":
        assert held.share.gathered == pytest.approx(small, rel=0.01)


@pytest.mark.long
def test_accumulated_gradients_are_held_as_forecast():
    for name in ("zero1", "zero2"):
        held, _, predicted = compared(3, 4, f"strategy={name}", "training.accumulate=2")
        assert held.sent == pytest.approx(predicted.traffic.bytes, rel=0.01)


@pytest.mark.long
@pytest.mark.parametrize("name", ["ddp", "zero2"])
def test_a_lora_of_a_rate_of_its_own_holds_what_is_forecast(name):
    """Weights that do not train lie whole on every device; of stage 3, which partitions some of them, they count as whole."""
    words = ("adapter=lora", "adapter.rank=4", "adapter.learning_rate=1e-3")
    held, expected, _ = compared(3, 4, *SMALL, f"strategy={name}", *words)
    full = forecast(compose([*BASE, *SMALL, f"strategy={name}"]), 4)
    assert held.share.average < full.share.average / 2 and expected.weights > held.share.average


@pytest.mark.long
def test_deepspeed_has_the_defaults_that_are_counted_with():
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    defaults = DeepSpeedZeroConfig()
    assert defaults.param_persistence_threshold == shares.PERSISTENT
    assert defaults.max_live_parameters == shares.LIVE
    assert defaults.use_multi_rank_bucket_allreduce


RANK = """
import json, os, sys
os.environ |= {"NODE_RANK": sys.argv[1], "LOCAL_RANK": "0"}
import torch
from torch import distributed
from hvg.config import build; from hvg.cost import dry_run
from hvg.config.composition import compose
from hvg.model.fake_step import FakeNetworks
from hvg.train.strategies import make_strategy

rank = int(sys.argv[1])
distributed.init_process_group("gloo", rank=rank, world_size=2)
config = compose(sys.argv[2:])
codec = build.build_codec(config)
networks = FakeNetworks(codec, *build.build_networks(config, codec))
strategy = make_strategy(config, torch.device("cpu"), True)
inspection = dry_run._Inspection(dry_run._Answers(2))
batches = dry_run._Batches(dry_run._batch(config, networks), 1)
trainer = dry_run._trainer(config, strategy, inspection, 2)
trainer.fit(dry_run._FakeModule(dry_run._system(config, networks)), train_dataloaders=batches)
print()
print(json.dumps(inspection.held), flush=True)
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ZERO)
def test_two_real_processes_hold_what_is_forecast(name, tmp_path):
    """DeepSpeed over gloo, with tensors that have values."""
    overrides = [*BASE, f"strategy={name}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(rank), *overrides],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    outputs = [process.communicate() for process in ranks]
    assert [process.returncode for process in ranks] == [0, 0], outputs
    config = compose(overrides)
    sizes = forecast(config, 2).counts.sizes
    for rank, (printed, _) in enumerate(outputs):
        held, expected = json.loads(printed.splitlines()[-1]), share(config.strategy, sizes, 2, 1, rank)
        for kind in ("weights", "copies", "optimizer", "average"):
            assert held[kind] == pytest.approx(getattr(expected, kind), rel=0.01), kind
