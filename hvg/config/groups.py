"""The words that a command line may use: Hydra's groups, their options and what those hold."""

import copy
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Self

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from hvg.config.parsing import read_yaml
from hvg.config.section import Section
from hvg.config.settings import RunConfig
from hvg.core.errors import ConfigError, Problem, did_you_mean
from hvg.core.shipped import CONF

ROOT = "hvg"


def root_keys() -> frozenset[str]:
    """Every name with which an override may begin."""
    return frozenset({*RunConfig.model_fields, *groups_of(config_loader())})


def did_you_mean_key(given: str, known: Iterable[str]) -> str:
    """As ``did_you_mean``, for the first word of a key: one that is the name of settings in a run's sections means these, or a
    known word that differs in a letter.
    """
    sections = {name: field.annotation for name, field in RunConfig.model_fields.items()}
    places = [
        f"'{name}.{given}'"
        for name, section in sections.items()
        if inspect.isclass(section) and issubclass(section, Section) and given in section.model_fields
    ]
    names = [*known]
    near = [f"'{name}'" for name in get_close_matches(given, names, n=1, cutoff=0.85)]
    return f"Did you mean {' or '.join(near + places)}?" if places else did_you_mean(given, names)


def config_loader(extra_search_paths: Sequence[str] = ()) -> ConfigLoaderImpl:
    """Hydra's view of ``conf/``, of the entry points ``hvg.conf`` and of more folders, in this order.

    Built directly rather than through ``initialize_config_dir``, which keeps its state in a global: this one also works
    inside a Hydra job and in threads. The same one again for as long as no file there changes.
    """
    places = [("main", CONF.as_uri()), *_installed(tuple(sys.path)), *(("extra", path) for path in extra_search_paths)]
    folders = [path.removeprefix("file://") for _, path in places if path.startswith("file://")]
    files = tuple(found for folder in folders for found in _yaml_files(folder))
    return _loader(tuple(places), files)


@lru_cache(maxsize=8)
def _installed(paths: tuple[str, ...]) -> list[tuple[str, str]]:
    """Name and address of each folder of YAML that packages bring. paths: ``sys.path``, where they lie."""
    return [
        (entry.name, folder.as_uri())
        for entry in entry_points(group="hvg.conf")
        for folder in _package_folders(entry.value)
    ]


def _yaml_files(folder: str) -> list[tuple[str, int, int]]:
    """Path, time and size of each YAML file in a folder and those inside it, in order."""
    found: list[tuple[str, int, int]] = []
    for entry in os.scandir(folder) if os.path.isdir(folder) else ():
        if entry.is_dir():
            found += _yaml_files(entry.path)
        elif entry.name.endswith(".yaml"):
            found.append((entry.path, entry.stat().st_mtime_ns, entry.stat().st_size))
    return sorted(found)


@lru_cache(maxsize=8)
def _loader(places: tuple[tuple[str, str], ...], files: tuple[tuple[str, int, int], ...]) -> ConfigLoaderImpl:
    """Hydra's view of places that it calls so. files: those there with time and size, for which this one is good."""
    version.setbase("1.3")
    Plugins.instance()  # Registers the readers of pkg:// and file://.
    search_path = ConfigSearchPathImpl()
    for provider, path in (*places, ("schema", "structured://")):
        search_path.append(provider, path)
    loader = ConfigLoaderImpl(config_search_path=search_path)
    loader.repository = _PlainRepository(search_path)
    return loader


class _PlainRepository(ConfigRepository):
    """Reads YAML once, and as ``read_yaml`` does before Hydra does, for which a few aliases of aliases are billions of values."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        super().__init__(search_path)
        self._read: dict[str, ConfigResult | None] = {}

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: Hydra copies it only to give the copy other places, which nobody can ask for."""
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Raises: ConfigError that names the file."""
        if config_path not in self._read:
            self._read[config_path] = self._from_file(config_path)
        found = copy.copy(self._read[config_path])
        if found is not None:
            # What is composed is made of it.
            found.config = copy.deepcopy(found.config)
        return found

    def _from_file(self, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is not None and source.scheme() == "file":
            file = Path(source.path, f"{config_path.removesuffix('.yaml')}.yaml")
            try:
                text = file.read_text(encoding="utf-8")
                # No aliases without an anchor.
                if "&" in text:
                    read_yaml(text)
                return super().load_config(config_path)
            except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
                reason = " ".join(str(error).split())
                raise ConfigError([Problem(str(file), f"cannot be read as YAML: {reason}")]) from error
        return super().load_config(config_path)


def _package_folders(module: str) -> list[Path]:
    """Folders with a package's files. It is not imported: a broken plugin must not hurt runs that do not choose it."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        # What is no name of a module has no files.
        return []
    roots = (spec and spec.submodule_search_locations) or []
    return [folder for root in roots if (folder := Path(root).joinpath(*inner).resolve()).is_dir()]


def all_options(extra_search_paths: Sequence[str] = ()) -> dict[str, list[str]]:
    """Group -> the names of its YAML files, those of installed plugins included."""
    loader = config_loader(extra_search_paths)
    return {group: options_of(loader, group) for group in groups_of(loader)}


def option_text(group: str, option: str) -> str:
    """The YAML that a word of the command line chooses, as its author wrote it."""
    found = config_loader().repository.load_config(f"{group}/{option}")
    if found is None:
        return ""
    return Path(found.path.removeprefix("file://"), group, f"{option}.yaml").read_text(encoding="utf-8")


def option_values(group: str, option: str) -> dict[str, Any]:
    """The plain values of that YAML."""
    found = config_loader().repository.load_config(f"{group}/{option}")
    values: Any = {} if found is None else OmegaConf.to_container(found.config, resolve=False)
    return values


def groups_of(loader: ConfigLoaderImpl) -> list[str]:
    return sorted(set(loader.repository.get_group_options("", ObjectType.GROUP)) - {"hydra"})


def options_of(loader: ConfigLoaderImpl, group: str) -> list[str]:
    """The names of a group's YAML files, in order."""
    return loader.repository.get_group_options(group, ObjectType.CONFIG)
