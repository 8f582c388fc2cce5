"""Options of the commands that start runs: launching, a study, a sweep. None is a property of a run."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from hvg.config.sections import Section
from hvg.core.bounds import Count, CountFromZero, MachineCount, ProcessCount, ProcessCountFromZero, Seed

WORD = r"^\S+$"
# Names of Hydra's launchers -> ours that does the same.
HYDRAS = {"joblib": "local", "submitit": "slurm", "submitit_slurm": "slurm", "submitit_local": "local"}


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise ValueError(f"seed {twice[0]} is listed twice")
    return seeds


# Seeds of trainings that stand side by side.
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_each_once)]


class LaunchOptions(Section):
    """Options of where runs are started. None belongs to a run: its config.yaml is the same wherever it trained."""

    launcher: Literal["basic", "local", "torchrun", "slurm"] = Field(
        default="basic",
        description="basic: here, one run after another; local: here, `jobs` runs side by side; torchrun: its processes, on "
        "this machine or, with --dry-run, the line for each of several; slurm: one batch job, an array for several runs.",
    )
    jobs: ProcessCount | None = Field(
        default=None, description="Runs of a sweep at once; null: 1 under local, all that the cluster has room for."
    )
    nodes: MachineCount | None = Field(default=None, description="Short for strategy.nodes.")
    devices: ProcessCount | None = Field(default=None, description="Short for strategy.devices, those of a node.")
    rendezvous: str | None = Field(
        default=None,
        pattern=r"^[^\s:]+:\d+$",
        description="HOST:PORT where torchrun's processes of several nodes meet; a name of the first node.",
    )
    partition: str | None = Field(default=None, pattern=WORD, description="Slurm's --partition.")
    account: str | None = Field(default=None, pattern=WORD, description="Slurm's --account.")
    qos: str | None = Field(default=None, pattern=WORD, description="Slurm's --qos.")
    time: str | None = Field(
        default=None,
        pattern=r"^(\d+-)?\d+(:\d+){0,2}$",
        description="Slurm's --time of one start, as 24:00:00; a longer run goes on in the next start.",
    )
    stop_before: Count = Field(
        default=120, description="Seconds before the end of `time` in which a step is finished and saved."
    )
    requeues: CountFromZero = Field(
        default=100, description="Starts after the first, at most, that a run may ask for; 0: Slurm may not requeue it."
    )
    gpus_per_node: ProcessCountFromZero | None = Field(
        default=None,
        description="Slurm's --gpus-per-node; null: one for each process, none with device=cpu; 0 asks for none.",
    )
    cpus_per_task: ProcessCount | None = Field(default=None, description="Slurm's --cpus-per-task, cores of a process.")
    mem: str | None = Field(default=None, pattern=WORD, description="Slurm's --mem, memory of a node, as 200G.")
    extra: tuple[str, ...] = Field(
        default=(), description="Further options of sbatch, as extra=[--constraint=h100,--exclusive]."
    )
    setup: tuple[str, ...] = Field(
        default=(), description="Lines of shell before the run, as setup=['module load cuda']."
    )

    @field_validator("launcher", mode="before")
    @classmethod
    def _not_hydras(cls, name: object) -> object:
        if name in HYDRAS:
            raise ValueError(f"launcher={HYDRAS[str(name)]} does what Hydra's {name} does, without pickles")
        return name


class StudyOptions(LaunchOptions):
    """Options of ``hvg study``, besides overrides of all arms."""

    launcher: Literal["basic", "local", "torchrun", "slurm"] = Field(
        default="local",
        description="local: here, `jobs` arms side by side; basic, torchrun: here, one after another; slurm: an array with "
        "an element for each training and what samples with it, to be followed by collect=true.",
    )
    jobs: ProcessCount | None = Field(
        default=None,
        description="Arms at once; null: as many as there are cores here (or 1, if each takes all GPUs), or as the cluster "
        "has room for.",
    )
    seeds: Seeds | None = Field(
        default=None,
        description="Those of the study's seeds that are worked on, as seeds=[1]; null: all. The report covers every seed that "
        "is finished.",
    )
    arms: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="Those of the study's arms that are worked on, as arms=[bone_map,none], with those whose weights they take; "
        "null: all. The report covers every arm that is finished.",
    )
    fresh: bool = Field(
        default=False, description="Throw away what an earlier run of the study, or of these seeds and arms, left."
    )
    collect: bool = Field(default=False, description="Start nothing; report on what is finished.")
    keep: bool = Field(
        default=False,
        description="Also write what every finished seed measured to results/seed<N> beside study.yaml, to be committed.",
    )
    merge: bool = Field(
        default=False,
        description="Start nothing, and look at no run; report on the seeds that are kept beside study.yaml, into a folder "
        "merged of the output, and into the README between its marks.",
    )

    @field_validator("seeds", mode="before")
    @classmethod
    def _one_seed(cls, seeds: object) -> object:
        # A sequence that went through here is judged as Python's, where a list is no tuple.
        return tuple(seeds) if isinstance(seeds, list) else (seeds,) if isinstance(seeds, int) else seeds

    @field_validator("arms", mode="before")
    @classmethod
    def _one_arm(cls, arms: object) -> object:
        return tuple(arms) if isinstance(arms, list) else (arms,) if isinstance(arms, str) else arms


class SweepOptions(Section):
    """Options of how a sweep searches. None belongs to a run: a trial's config.yaml is that of any training."""

    sweep: Literal["optuna"] = Field(default="optuna", description="Who proposes the trials of a sweep.")
    trials: Count = Field(
        default=20, description="Trials of the sweep, over all workers; a larger number later adds to it."
    )
    storage: str | None = Field(
        default=None,
        description="Where workers meet: sqlite:///FILE for those of one machine, postgresql://USER@HOST/DATABASE for any; "
        "null: sweep.db in the sweep's folder. A password is better left to PGPASSWORD or ~/.pgpass.",
    )
    metric: str = Field(
        default="validation_psnr",
        min_length=1,
        description="What is optimised: a number of metrics.jsonl. One of a validation counts as it is, another, such as "
        "loss, as its mean over the last tenth of the steps so far.",
    )
    direction: Literal["minimize", "maximize"] | None = Field(
        default=None, description="Which end of the metric is better; null: known for validation_psnr and loss."
    )
    search: Literal["tpe", "random"] = Field(
        default="tpe", description="How values are proposed: near the best trials (tree Parzen estimator), or anywhere."
    )
    search_seed: Seed = Field(
        default=0, description="Proposals are a function of this number and of the trials that have ended."
    )
    search_startup: CountFromZero = Field(default=10, description="Ended trials before tpe leaves random proposals.")
    pruner: Literal["none", "median", "percentile", "halving", "hyperband"] = Field(
        default="none",
        description="Which trials are stopped early by their metric so far: those below the median of earlier trials at "
        "the same step; not in their best `prune_keep` percent; not among the best third at rungs three times as far "
        "apart as the one before (successive halving); the same at several first rungs (Hyperband).",
    )
    prune_startup: CountFromZero = Field(
        default=5, description="Trials that end before median and percentile stop any."
    )
    prune_after: CountFromZero = Field(default=0, description="Steps before which median and percentile stop no trial.")
    prune_keep: float = Field(default=25.0, gt=0, lt=100, description="Percent of trials that percentile lets go on.")
    retries: CountFromZero = Field(
        default=1, description="How often a trial whose training failed is started again, from its newest checkpoint."
    )
    deaths: CountFromZero = Field(
        default=5, description="How often a trial whose worker died is continued by another before it counts as failed."
    )
    lease: float = Field(
        default=300.0,
        gt=0,
        le=1e9,
        description="Seconds without a sign of its worker after which a trial is continued by another. Longer than a step "
        "with its validation and checkpoint, and the same for all workers, whose clocks have to agree.",
    )
    wait: bool = Field(
        default=True,
        description="Whether a worker with nothing left to start stays until the trials of others have ended, to continue "
        "those of one that dies.",
    )


class SweepReportOptions(Section):
    """Options of ``hvg sweep report NAME``."""

    storage: str | None = Field(default=None, description="Its storage; null: sweep.db in its folder.")
    output: Path = Field(default=Path("runs"), description="The folder that its folder is in.")
