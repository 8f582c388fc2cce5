"""``hvg view``: a clip, a request or a sample in 3D, in the browser."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hvg.commands.progress import ProgressLines
from hvg.commands.words import options_and_overrides
from hvg.config.composition import compose, judge_words
from hvg.config.view_options import ViewOptions
from hvg.core.errors import HvgError

if TYPE_CHECKING:
    from hvg.view.scene import Scene


def run(words: list[str]) -> int:
    """``hvg view``; 0 after Ctrl-C, which ends it."""
    options, overrides = options_and_overrides(words, ViewOptions, judge=judge_words)
    if find_spec("viser") is None:
        raise HvgError("the page is made of viser, which is not installed", then="pip install 'hvg[view]'")
    from hvg.view.listening import address, check_output, close, listen

    check_output(options)
    server = listen(options)
    try:
        print(f"the page opens at {address(server)}; the scene is being read", flush=True)
        scene = open_scene(options, overrides)
        if options.frame >= scene.num_frames:
            raise HvgError(f"frame={options.frame}: there are {scene.num_frames} frames, counted from 0")
        from hvg.view.server import open_page, serve

        page = open_page(scene, options, server)
        for note in scene.notes:
            print(f"note: {note}")
        print(f"{scene.title}: {address(server)} (Ctrl-C ends it)", flush=True)
        serve(page)
    except KeyboardInterrupt:
        pass
    finally:
        close(server)
    print("ended")
    return 0


def open_scene(options: ViewOptions, overrides: Sequence[str]) -> "Scene":
    """The scene that the words name. Raises: HvgError for anything that cannot be used."""
    # Each of them imports for seconds what the others do without.
    if options.sample is not None:
        from hvg.view.samples import sample_scene

        if overrides:
            raise HvgError(f"{overrides[0]}: a sample is shown as it was made; overrides are of clips and requests")
        with ProgressLines() as progress:
            return sample_scene(options, options.sample, lambda stage, d, n: progress.update("sample", stage, d, n))
    if options.is_request:
        from hvg.view.requests import request_scene

        return request_scene(options, overrides)
    from hvg.view.clips import dataset_scene

    return dataset_scene(compose([*overrides, *options.overrides]), options)
