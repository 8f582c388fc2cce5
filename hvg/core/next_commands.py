"""Commands that messages name as what to type next. Words in capitals are to be filled in.

A test types each at the command line's own parser, wherever in hvg a message names it: tests/meta/test_next_commands.py.
"""

# Of whatever command was typed: the command line puts its name in.
HELP = "hvg COMMAND --help"
# Every setting of a run.
MANUAL = "hvg list --verbose"
TRAIN = "hvg train name=NAME"
TRAIN_RECONSTRUCTOR = "hvg train system=avatar"
PREPARE, PREPARE_LATENTS = "hvg prepare", "hvg prepare latents"
EVALUATE = "hvg evaluate checkpoint=RUN"
EXPORT = "hvg export checkpoint=RUN out=FOLDER"
FILM = "hvg motion video=FILE out=MOTION.npz"
CUT_OUT = "hvg photo PHOTO out=CUTOUT.png"
VIDEO_ENV = "make video-env"
TENSORBOARD = "pip install 'hvg[tensorboard]'"
POSTGRESQL = "pip install 'hvg[postgresql]'"
TORCHMETRICS = "pip install --force-reinstall torchmetrics"
