"""``hvg weights``: the pretrained networks that metrics look through, and where to get them."""

from pathlib import Path

from hvg.commands.words import only_options
from hvg.config.command_options import WeightsOptions
from hvg.core.text_tables import table
from hvg.parts.network_files import CATALOGUE, NetworkFiles, default_folder, presence


def run(words: list[str]) -> int:
    """``hvg weights``; 1 where a file is damaged."""
    options = only_options(words, WeightsOptions)
    lines, damaged = weights_report(options.folder or default_folder())
    print("\n".join(lines))
    return 1 if damaged else 0


def weights_report(folder: Path) -> tuple[list[str], bool]:
    """Lines that list the networks in a folder and where to get the rest; and whether one is damaged."""
    files = NetworkFiles(folder)
    found = {name: presence(files, name) for name in CATALOGUE}
    rows = [("name", "file", "needed by", "present")]
    for name, known in CATALOGUE.items():
        rows.append((name, next(iter(known.files)) + "/" * known.folder, known.needed_by, str(found[name])))
    lines = [f"Pretrained networks in {folder} (evaluation.networks, or $HVG_NETWORKS)", "", *table(rows)]
    missing = [(name, known) for name, known in CATALOGUE.items() if not found[name].state.startswith("yes")]
    if missing:
        lines += ["", "To get them, save under the name above, in that folder:"]
        lines += [line for name, known in missing for line in (f"{name}: {known.source}", f"    {known.remark}")]
    return lines, any(one.state == "DAMAGED" for one in found.values())
