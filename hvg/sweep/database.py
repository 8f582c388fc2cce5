"""The database of a search: opening it, locking it, and what it answers when it cannot be reached."""

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import sqlalchemy
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from hvg.core.errors import HvgError
from hvg.core.files import regular_file
from hvg.core.locks import locked
from hvg.core.next_commands import POSTGRESQL

# A number for PostgreSQL's advisory locks: "hvg" in ASCII.
ADVISORY_LOCK = 0x687667
# Seconds that a worker waits for the others: each needs milliseconds, or a second where a search has hundreds of trials.
LONGEST_WAIT = 300.0
# One of Optuna's tables.
TABLE = "studies"


class LostTrialError(Exception):
    """Another worker has taken a trial over: nothing was heard of this one for longer than the lease."""


def use_password(url: str) -> str:
    """A storage's address without its password, which goes to where PostgreSQL's own library looks, of workers too.

    On the command lines of workers and in scripts others could read it.
    Raises: HvgError for what is no address of SQLite or PostgreSQL, or needs a driver that is not installed.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except ArgumentError as error:
        raise HvgError(
            "storage is no address such as sqlite:///runs/sweep.db or postgresql://me@host/sweeps"
        ) from error
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise HvgError(f"storage has to be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {kind}")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise HvgError("storage has to name a file, as sqlite:///runs/sweep.db: workers share it")
    if kind == "postgresql" and not importlib.util.find_spec("psycopg"):
        raise HvgError("storage=postgresql://... needs the package psycopg", then=POSTGRESQL)
    query = dict(parsed.query)
    password = query.pop("password", parsed.password)
    if password is not None:
        os.environ["PGPASSWORD"] = str(password)
    # URL.set() keeps a password for which it is given None.
    driver = "postgresql+psycopg" if kind == "postgresql" else kind
    parts = (driver, parsed.username, None, parsed.host, parsed.port, parsed.database, query)
    return sqlalchemy.URL.create(*parts).render_as_string()


def open_storage(url: str, *, make: bool = True) -> optuna.storages.RDBStorage:
    """The storage, whose tables are made where they are missing and ``make`` says so; call it under the lock.

    Raises: HvgError for a database that is of something else.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = sqlite_path(url)
    # A file is locked while others write; they need milliseconds each.
    arguments = {"connect_args": {"timeout": LONGEST_WAIT}} if path else {}
    engine = sqlalchemy.create_engine(url, poolclass=NullPool, **arguments)
    tables = sqlalchemy.inspect(engine).get_table_names()
    # Several programs may share a server's database, a file is one program's.
    if TABLE not in tables and (not make or (path is not None and tables)):
        raise HvgError(f"storage {url} holds no sweeps{f', but {tables[0]}' if tables else ''}")
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def sqlite_path(url: str) -> Path | None:
    parsed = sqlalchemy.make_url(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


@contextmanager
def locked_storage(url: str) -> Iterator[None]:
    """Inside, no other worker of the storage is inside. The lock of one that dies is free.

    Raises: HvgError when the storage does not answer.
    """
    path = sqlite_path(url)
    if path is not None:
        if path.exists():
            regular_file(path)
        with answering(url), locked(path.with_name(f"{path.name}.lock"), wait=LONGEST_WAIT):
            yield
        return
    with answering(url), sqlalchemy.create_engine(url, poolclass=NullPool).connect() as connection:
        connection.execute(sqlalchemy.text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        yield


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turns what a storage's libraries raise into one line. Raises: HvgError where the storage cannot be used."""
    try:
        yield
    except LostTrialError:
        raise
    except (SQLAlchemyError, optuna.exceptions.OptunaError, json.JSONDecodeError, RuntimeError) as error:
        # RuntimeError: tables of another version of Optuna. Its own errors come of the database's.
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        cause = getattr(cause, "orig", None) or cause or error
        raise HvgError(f"storage {url} cannot be used: {str(cause).strip().splitlines()[0]}") from error
