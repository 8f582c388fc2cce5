"""Runs: from a configuration to a trained system in a run folder, with Lightning's Trainer."""

import gc
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NoReturn

import lightning
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only

from hvg.config.buckets import bucket_notes
from hvg.config.build import told_captions
from hvg.config.changes import Change, earlier_config, judged_changes
from hvg.config.machine import choose_device, refuse_missing
from hvg.config.overlap import dataset_notes
from hvg.config.precision import LIGHTNING, explain_here, precision_here, trained_in
from hvg.config.settings import RunConfig
from hvg.config.stages import TrainingStage, stages_of
from hvg.config.wiring import slot_notes
from hvg.core.checkpoint import Checkpoint, checkpoint_path, latest_checkpoint, latest_whole_checkpoint
from hvg.core.errors import CheckpointError, HvgError
from hvg.core.exit_codes import TERMINATED, Stopped
from hvg.core.outputs import held_folder
from hvg.core.quiet import quiet_training
from hvg.core.ranks import joined
from hvg.data.cache import missing_from_cache, open_clips
from hvg.data.step_order import training_groups
from hvg.data.training_data import ClipDataModule, TrainingOrder
from hvg.data.unreadable import said_by_loader
from hvg.model.ema import AVERAGE
from hvg.model.fake_step import fake_networks
from hvg.model.load import opened_system, start_system
from hvg.model.trained_system import TrainedSystem
from hvg.model.training_state import check_moments, check_training_state
from hvg.train.callbacks import AfterStep, DataWait, Interruption, Progress
from hvg.train.checkpoints import Checkpoints
from hvg.train.faults import Quarantine, SkippedSteps
from hvg.train.lightning_system import LightningSystem
from hvg.train.loggers import make_loggers
from hvg.train.run_folder import keep_untrained, prepare_folder, run_folder, write_down
from hvg.train.run_notes import failure_noted
from hvg.train.strategies import leave_group, make_strategy
from hvg.train.throughput import Meter, StepReport
from hvg.train.utilisation import COUNT_AFTER, StepFlops
from hvg.train.validation import ValidationSamples


def resume_from(config: RunConfig, log: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint to continue from, open; None to start anew. Damaged ones are logged, and passed over.

    Raises: CheckpointError when a named one is missing or damaged, or none of those that are there is whole.
    """
    if config.resume is None:
        return None
    if config.resume != "auto":
        found = Checkpoint(Path(config.resume))
    else:
        found, damaged = latest_whole_checkpoint(run_folder(config) / "checkpoints")
        for line in damaged:
            log(f"warning: {line}; continuing from {found.path if found else 'nothing'}")
    if found is not None and config.last_step:
        check_training_state(found)
    return found


def changed_settings(start: Checkpoint, config: RunConfig) -> list[Change]:
    """Settings that a run changes from its checkpoint on, all allowed. Raises: ConfigError, see ``judged_changes``."""
    was = earlier_config(start.state["config"], str(start.path))
    before, now = (c.data.batch_size * c.training.accumulate for c in (was, config))
    clips = start.world_size * before, num_processes(config) * now
    return judged_changes(was, config, str(start.path), step=int(start.state["global_step"]), clips=clips)


def num_processes(config: RunConfig) -> int:
    """Number of processes that train a run, where it is started here."""
    nodes, devices = config.strategy.processes
    if devices == "auto":
        devices = max(1, torch.cuda.device_count()) if choose_device(config.device).type == "cuda" else 1
    return nodes * devices


def is_first_process() -> bool:
    """Whether this is the run's first process, which writes and prints for all; known before they have joined."""
    return not rank_zero_only.rank


def train(
    config: RunConfig,
    report: Callable[[StepReport], None] = lambda *_: None,
    log: Callable[[str], None] = print,
) -> None:
    """Trains to the configured step, whose checkpoint is the result.

    Writes config.yaml, run.json, metrics.jsonl, samples/ and checkpoints/ into the run folder. Where several processes
    train, each calls this. Raises: SystemExit(143) after SIGTERM and KeyboardInterrupt after SIGINT, when the step in
    which they came is saved; HvgError where another process works in the folder.
    """
    with held_folder(run_folder(config), "output, name", log=log) if is_first_process() else nullcontext():
        _train(config, report, log)


def _train(config: RunConfig, report: Callable[[StepReport], None], log: Callable[[str], None]) -> None:
    """The same as ``train``, in processes of which the first has the run folder for itself."""
    folder = run_folder(config)
    start = resume_from(config, log)
    changed = [] if start is None else changed_settings(start, config)
    if config.resume is None and is_first_process() and latest_checkpoint(folder / "checkpoints"):
        raise CheckpointError(
            f"{folder}: holds checkpoints of an earlier run; continue it with resume=auto, or choose another name=..., "
            "or delete it"
        )
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    first_step = int(start.state["global_step"]) if start else 0
    stages = [stage.config for stage in stages_of(config)]
    refuse_missing(stages, trains=first_step < config.last_step and is_first_process())
    if first_step < config.last_step:
        if changed:
            log(f"continues at step {first_step} with other settings: {'; '.join(map(str, changed))}")
        with quiet_training(), failure_noted(folder):
            _train_stages(config, start, changed, report, log)
        resumed = f" from step {first_step} on" if first_step else ""
        log(f"trained {config.last_step - first_step} steps{resumed}; the run is in {folder}")
    elif start is not None:
        log(f"nothing to train: {start.path} is at step {first_step}, training.steps is {config.last_step}")
    elif is_first_process() or joined():
        keep_untrained(config, is_first_process(), log)


def _train_stages(
    config: RunConfig,
    start: Checkpoint | None,
    changed: Sequence[Change],
    report: Callable[[StepReport], None],
    log: Callable[[str], None],
) -> None:
    """Trains all stages that are left behind ``start``, each from where the one before ended."""
    interruption, outside, reached = Interruption(), joined(), int(start.state["global_step"]) if start else 0
    stages = [stage for stage in stages_of(config) if stage.last > reached]
    judge_adapters(stages[1:])

    def leave(more: bool) -> None:
        # Processes join only once.
        if joined() and not (outside or more):
            leave_group()

    for stage in stages:
        reached = _fit(config, stage, start, changed, interruption, leave, report=report, log=log)
        if reached < stage.last or interruption.agreed or reached == config.last_step:
            break
        # What trained the stage refers to itself, and would stay beside the next network until somebody looks.
        gc.collect()
        start, changed = Checkpoint(checkpoint_path(run_folder(config) / "checkpoints", reached)), ()
    if reached < config.last_step:
        _stop(interruption.received, f"step {reached} is saved, resume=auto continues from there", log)
    if interruption.received:
        # It came in the last step: what follows training has to stop as well.
        signal.raise_signal(interruption.received)


def _fit(
    run: RunConfig,
    stage: TrainingStage,
    start: Checkpoint | None,
    changed: Sequence[Change],
    interruption: Interruption,
    leave: Callable[[bool], None],
    *,
    report: Callable[[StepReport], None],
    log: Callable[[str], None],
) -> int:
    """Trains a stage of a run to its last step, whose checkpoint is then written; the step of the run that is reached.

    start: within the stage, or where it begins. leave: told when it has ended whether another stage follows.
    """
    config, step = stage.config, int(start.state["global_step"]) if start else 0
    goes_on = start is not None and (step > stage.first or stage.first == 0)
    if start is not None and (goes_on or stage.begins == "continued"):
        check_moments(start, (*config.optimizer.cls.moments, AVERAGE))
    device, folder = choose_device(config.device), run_folder(config)
    precision = precision_here(config)
    history = trained_in(None if start is None else start.precision, precision)
    strategy = make_strategy(config, device, precision == "bf16")
    if is_first_process():
        log(f"trains in {explain_here(config)}")
        if history != precision:
            log(
                f"warning: not all of the run is trained in one precision: {history}; training.precision=... keeps to one"
            )
        prepare_folder(config, start, log)
        if stage.label:
            log(f"stage {stage.label}: from step {step} to {stage.last} of {run.last_step}")
    if start is None:
        system = start_system(config, log)
    elif goes_on:
        system = opened_system(config, start, "raw", log)
        strategy.start = start
    else:
        system = begun_system(stage, start, log)
        strategy.carried = start if stage.begins == "continued" else None
    if is_first_process():
        write_down(run, start, changed, history, stage)
    for note in [*dataset_notes(config.dataset), *bucket_notes(config), *slot_notes(config), *system.notes]:
        log(f"note: {note}")
    for split in ("train", "val"):
        system.check_captions(told_captions(config, split))
    train_clips = system.training_clips(config)
    missing = missing_from_cache(config)
    if missing:
        log(missing)
    validation_clips = open_clips(config, "val", system.signals)
    groups = training_groups(config, len(train_clips))
    quarantine, skipped = Quarantine(folder, config, groups, log), SkippedSteps(folder, config, log)
    for faults in (quarantine, skipped):
        if start is not None and not goes_on:
            faults.follow(start)
    order = partial(
        TrainingOrder,
        train_clips,
        system.signals,
        seed=config.seed,
        groups=groups,
        recolour=config.data.recolour,
        driving=config.data.driving_changes,
        copies=config.data.copied_driving == "allow",
        first_view=config.data.first_view,
    )
    data = ClipDataModule(
        order,
        batch_size=config.data.batch_size,
        num_steps=config.training.steps,
        workers=config.data.workers,
        first_step=step - stage.first,
        accumulate=config.training.accumulate,
        behind=stage.ordered,
    )
    meter = Meter()
    work = StepFlops(config, folder / "run.json", device, precision == "bf16", log)
    progress = Progress(report, config.training.log_every, meter, work, COUNT_AFTER)
    callbacks: list[AfterStep] = [progress, quarantine, skipped, interruption]
    if config.training.validate_every:
        callbacks.append(ValidationSamples(folder, validation_clips, config, meter))
    callbacks.append(Checkpoints(folder / "checkpoints", run, meter, history))
    for callback in callbacks:
        callback.stage = stage
    trainer = lightning.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1 if config.strategy.name == "single" else config.strategy.devices,
        num_nodes=1 if config.strategy.name == "single" else config.strategy.nodes,
        strategy=strategy,
        # ZeRO does it itself.
        precision=None if config.strategy.name.startswith("zero") else LIGHTNING[precision],
        max_steps=config.training.steps,
        accumulate_grad_batches=config.training.accumulate,
        # Ours is in Progress; this only keeps Lightning from advising on its own.
        log_every_n_steps=1,
        logger=make_loggers(config, folder, step) if is_first_process() else False,
        callbacks=[*callbacks],
        plugins=_cluster(),
        profiler=DataWait(meter),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    try:
        with interruption.listening():
            module = LightningSystem(system, stage.first)
            trainer.fit(module, datamodule=data, ckpt_path=start.path if start is not None and goes_on else None)
            reached = interruption.run_step(trainer)
            leave(reached == stage.last < run.last_step and not (interruption.agreed or skipped.stopped))
    except Stopped as stop:
        _stop(stop.number, "resume=auto continues what is saved", log)
    except HvgError as error:
        if said := said_by_loader(error):
            raise HvgError(said) from error
        raise
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        # What torch says where a process that loads data has gone: no fault of the code.
        raise HvgError(
            f"a process that loads data was ended from outside ({' '.join(str(error).split())}), for want of memory perhaps; "
            "resume=auto continues the run from its newest checkpoint, a smaller data.workers needs less"
        ) from error
    skipped.check()
    return reached


def judge_adapters(stages: Sequence[TrainingStage]) -> None:
    """Raises: HvgError for a stage to come whose adapter does not fit its network: now, not when it is its turn."""
    for stage in stages:
        if "adapter" in stage.config.parts and not stage.config.adapter.cls.whole:
            try:
                with fake_networks(stage.config):
                    continue
            except HvgError as error:
                raise HvgError(f"stages.{stage.label}: {error}") from error


def begun_system(stage: TrainingStage, before: Checkpoint, log: Callable[[str], None]) -> TrainedSystem:
    """The system with which a stage begins, from the checkpoint with which the one before ended."""
    config = stage.config.model_copy(update={"checkpoint": before.path})
    return start_system(config, log, "ema" if stage.begins == "averaged" else "raw")


def _cluster() -> SLURMEnvironment | None:
    """Environment of processes started by srun, without Lightning's requeueing, which waits for another signal."""
    by_srun = SLURMEnvironment.detect() and not TorchElasticEnvironment.detect()
    return SLURMEnvironment(auto_requeue=False) if by_srun else None


def _stop(received: int, saved: str, log: Callable[[str], None]) -> NoReturn:
    """Ends an interrupted run with the exit code that its signal stands for. saved: what there is to say of its state."""
    if received == signal.SIGTERM:
        if is_first_process():
            log(f"stopped by SIGTERM; {saved}")
        raise SystemExit(TERMINATED)
    raise KeyboardInterrupt from None
