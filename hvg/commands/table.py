"""What may be typed after ``hvg``: the forms of every command, its flags and options, and where its function is. Nothing that
does the work is imported.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hvg.config.section import Section

Flags = frozenset[str]
# Forms of every command, and what they do.
FORMS = """\
  demo [out=FOLDER] [subject= seed= views= camera= reference=PHOTO motion=MOTION.npz ...]
                                  a first video in half a minute, of a small model and a person that hvg brings; its words are
                                  those of sample
  demo make=FOLDER checkpoint=RUN [subjects= frames=] [overrides]
                                  make what demo brings, of a run of your own
  list [KIND|WORD] [overrides] [--verbose]
                                  swappable parts; --verbose is the manual of every setting, with the values of a run
  check [overrides] [devices= nodes= memory= bandwidth=]
                                  judge a configuration and forecast its cost on each GPU; exit code 1 if it does not fit
  show [overrides] [index= split= frame= out=]
                                  a contact sheet of a clip: images, every signal, joints drawn over the person
  view [overrides] [index= split= frame= port= out=]
                                  a clip in 3D, in the browser: body, ellipsoids, skeleton, cameras and what they saw
  view motion=MOTION.npz [camera= start= views= ...] [checkpoint=PATH] [overrides]
                                  what `hvg sample` would be asked; cameras are moved by hand, and saved for it
  view sample=FOLDER              a folder that `hvg sample` wrote
  prepare [overrides] [jobs=]     render the dataset and its signals to shards; pose=a,b or pose=all for several poses
  prepare latents [overrides] [jobs=]
                                  and store what the codec and other frozen networks make of the training clips
  prepare check [overrides] [clips= split= out=]
                                  draw bodies over the pictures of a few clips, and call the usual mistakes by name
  train [overrides] [--multirun]  train one model; with --multirun one per combination of comma-separated values
  train dry_run=32 [overrides]    build the job of a rank of 32 on shapes, without a GPU: what would each hold?
  launch train [overrides] launcher=basic|local|torchrun|slurm [--multirun] [--dry-run] [jobs= nodes= devices= ...]
                                  train here, side by side, under torchrun, or on Slurm; --dry-run shows the commands
  train --multirun sweep=optuna trials=40 'training.learning_rate=tag(log, interval(1e-4, 1e-2))' pose=bone_map,skeleton
                                  search; every start of the same command is a worker, and a dead one's trial is continued
  sweep report NAME [storage= output=]
                                  a sweep's best trials, parallel coordinates, importance: report.html and trials.csv
  sweep wandb --print [overrides] the same sweep as a file for `wandb sweep`
  evaluate checkpoint=PATH [protocol= sampler= solver= guidance= evaluation.KEY= anchors=] [shift=true dataset.KEY=]
                                  score a checkpoint on the test split; with shift=true on other clips, on purpose
  evaluate predictions=FOLDER reference=FOLDER [protocol= masks= subject= background= anchors= out=]
                                  score videos or frames that any system made, matched by name
  sample checkpoint=PATH reference=PHOTO motion=MOTION.npz camera=orbit out=FOLDER [start= stride= sampler= ...]
                                  a person of your own in a motion of your own
  sample recipe=reimagine refiner.checkpoint=PATH [checkpoint=PATH] reference=PHOTO motion=MOTION.npz ...
                                  pictures of one model, refined by a second one, a video model; refiner= says how
  refine checkpoint=PATH video=FILE out=FOLDER [refiner= reference= motion= camera= ...]
                                  a video model on anybody's videos: a file, a folder of pictures, or one of views
  export checkpoint=PATH out=FOLDER [weights=ema|raw] [adapter=merged|file]
                                  a folder for diffusers: hvg.pipeline.HumanVideoPipeline.from_pretrained(FOLDER);
                                  with adapter=file a LoRA file for load_lora_weights
  convert body=FILE.pkl out=FILE.npz
                                  a body model of the SMPL family as plain arrays; nothing in the pickle is called
  motion video=FILE out=MOTION.npz [box= fov_degrees= tilt_degrees= height= smoothing= ...]
                                  how a person in a video moves, by MediaPipe: joints, a matte, and an overlay to look at
  photo FILE out=CUTOUT.png [box=]
                                  cut a person out of a photo, and say their box
  study FOLDER [overrides] [seeds= jobs= fresh= keep=] [launcher=local|basic|torchrun|slurm ...] [--dry-run]
                                  train and compare the arms of FOLDER/study.yaml, here or as jobs of Slurm; seeds=[1] a seed
                                  at a time; keep=true also writes what seeds measured to FOLDER/results, to be committed
  study NAME ...                  the same for a study that hvg brings, from any folder: study quickstart
  study FOLDER [overrides] collect=true
                                  report on what is finished; exit code 75 while some arms are not, 1 when one failed
  study FOLDER merge=true         report on the seeds in FOLDER/results, without data, checkpoints or runs
  compare RUN RUN ... [LABEL=RUN,RUN] [out= headline=]
                                  evaluations side by side, with intervals and p-values; several runs of an arm are seeds
  watch RUN|FOLDER ... [once= every= clips= out=]
                                  runs in a page that loads itself again: curves, validation videos, what failed and why
  weights [folder=DIR]            the pretrained networks that metrics need: what is there, and where to get the rest
  new part NAME kind=conditioner [out=]
                                  a package for a part of your own: its file, settings, word and test, as a working example
  bench [NAME ...]                what takes how long here
  bench peers [rows= threads= precision= recorded= out= ...]
                                  beside what a user would take instead: ratios in one process, JSON, and a table for a page
  bench gpu [minutes= size= out= ...]
                                  training, sampling and memory at full size on one GPU, in minutes: JSON and a page
  bench scale [overrides] [gpus= batch= tflops= between= measure= out= ...]
                                  time, memory and bytes as they grow with views, frames, pixels, weights and GPUs, to 4,096
"""


@dataclass(frozen=True)
class Command:
    """A word after ``hvg``; its forms are those of ``FORMS`` that begin with it.

    run: where its function is, as ``module:function``. It takes the other words, and the flags that were given where the
    command has some; it returns the exit code. options: their classes, as ``module:Class``, of modules of ``hvg.config``, or by
    name alone those in its ``command_options``. flags: the names of each -> what it does. overrides: of what. interrupted: what
    is true after Ctrl-C, where the command did not say it itself.
    """

    run: str
    options: tuple[str, ...] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    overrides: Literal["run", "sampling"] | None = None
    interrupted: str = "the same command starts anew"

    def models(self) -> "list[type[Section]]":
        """The classes of the options."""
        found = []
        for option in self.options:
            module, _, name = option.rpartition(":")
            module = module or "command_options"
            found.append(getattr(import_module(module if "." in module else f"hvg.config.{module}"), name))
        return found


CONTINUES = "resume=auto continues what it has saved; a sweep goes on with the same command"
VERBOSE = {"--verbose": "Every setting with its type, value and meaning."}
MULTIRUN = {"-m --multirun": "One run for every combination of comma-separated values."}
DRY_RUN = {"--dry-run": "Start nothing; print the commands, or the batch script, that would be started."}
PRINT = {"--print": "Print the file that `wandb sweep` takes."}
COMMANDS: dict[str, Command] = {
    "demo": Command(
        "hvg.commands.demo:run",
        ("demo_options:DemoOptions", "demo_options:DemoFilesOptions"),
        overrides="sampling",
        interrupted="nothing has changed; the same command can be typed again",
    ),
    "list": Command("hvg.commands.listing:run", (), VERBOSE, "run"),
    "check": Command("hvg.commands.check:check_command", ("CheckOptions",), overrides="run"),
    "show": Command("hvg.commands.show:run", ("ShowOptions",), overrides="run"),
    "view": Command("hvg.commands.view:run", ("view_options:ViewOptions",), overrides="run"),
    "prepare": Command(
        "hvg.commands.prepare:run",
        ("PrepareOptions", "PrepareCheckOptions"),
        overrides="run",
        interrupted="what is rendered is kept, and the same command continues it",
    ),
    "train": Command(
        "hvg.commands.train:run",
        ("DryRunOptions", "hvg.cluster.launch_options:LaunchOptions", "hvg.cluster.launch_options:SweepOptions"),
        MULTIRUN | DRY_RUN,
        "run",
        CONTINUES,
    ),
    "launch": Command(
        "hvg.commands.train:launch",
        ("hvg.cluster.launch_options:LaunchOptions", "hvg.cluster.launch_options:SweepOptions"),
        MULTIRUN | DRY_RUN,
        "run",
        CONTINUES,
    ),
    "sweep": Command(
        "hvg.commands.sweep:run",
        ("hvg.cluster.launch_options:SweepReportOptions", "hvg.cluster.launch_options:SweepOptions"),
        PRINT | MULTIRUN,
        "run",
    ),
    "evaluate": Command("hvg.commands.evaluate:run", ("EvaluateOptions", "FolderOptions"), overrides="sampling"),
    "sample": Command(
        "hvg.commands.sample:run",
        ("SampleOptions",),
        overrides="sampling",
        interrupted="nothing has changed; the same command can be typed again",
    ),
    "refine": Command(
        "hvg.commands.refine:run",
        ("refine_options:RefineOptions",),
        overrides="sampling",
        interrupted="nothing has changed; the same command can be typed again",
    ),
    "export": Command("hvg.commands.export:run", ("ExportOptions",)),
    "convert": Command("hvg.commands.convert:run", ("ConvertOptions",)),
    "motion": Command("hvg.commands.motion:run", ("MotionOptions",)),
    "photo": Command("hvg.commands.photo:run", ("PhotoOptions",)),
    "study": Command(
        "hvg.commands.study:run",
        ("hvg.cluster.launch_options:StudyOptions",),
        DRY_RUN,
        "run",
        "the same command continues it",
    ),
    "compare": Command("hvg.commands.compare:run", ("CompareOptions",)),
    "watch": Command("hvg.commands.watch:run", ("watch_options:WatchOptions",)),
    "weights": Command("hvg.commands.weights:run", ("WeightsOptions",)),
    "new": Command("hvg.commands.new:run", ("NewPartOptions",)),
    "bench": Command(
        "hvg.commands.bench:run",
        (
            "bench_options:PeersOptions",
            "bench_options:GpuBenchOptions",
            "bench_options:ScaleOptions",
        ),
        overrides="run",
        interrupted="what was measured by then is in its folder, and the same command starts anew",
    ),
}
