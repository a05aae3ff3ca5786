"""The storage: names and bytes flow in, files in a folder or an object store flow out, whole or not at all.

A folder gets a file by renaming one that is complete and on the disk, an object store by one request. So
whoever reads meanwhile, after a kill or a full disk too, sees what was there before, or all of the new file.
"""

from __future__ import annotations

import errno
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from pipeline.settings import SettingsError, shown_url

# Where files of a folder are written before they get their name; nobody looks for any there.
_PARTS: Final = ".parts"
# What is there for so long was left by a process that was killed.
_STALE_S: Final = 3600.0
_ADVICE: Final = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EFBIG: "allow larger files",
    errno.EACCES: "let this user read and write there, or name another place in ARCHIVE_URL",
    errno.EPERM: "let this user read and write there, or name another place in ARCHIVE_URL",
    errno.EROFS: "name another place in ARCHIVE_URL",
    errno.ENOTDIR: "name a folder in ARCHIVE_URL",
    errno.EEXIST: "name a folder in ARCHIVE_URL",
}
# Kinds of error that a file system without hard links answers with.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class StorageError(Exception):
    """The archive's place cannot be used; the message is a sentence for people."""


class Gone(Exception):
    """There is no file of that name."""


class _Place(Protocol):
    """What keeps files; names are relative, with slashes."""

    def put(self, name: str, data: bytes) -> None: ...

    def create(self, name: str, data: bytes) -> bool: ...

    def get(self, name: str) -> bytes: ...

    def get_all(self, names: Sequence[str]) -> dict[str, bytes]: ...

    def exists(self, name: str) -> bool: ...

    def names(self, folder: str) -> list[str]: ...

    def delete(self, name: str) -> None: ...

    def tidy(self) -> None: ...


class Storage:
    """Where the archive is kept: a folder, or an address that fsspec knows.

    Every method raises StorageError when the place cannot be used.
    """

    def __init__(self, url: str) -> None:
        """Raises SettingsError when the URL names no kind of place that is known here."""
        self.url = url
        protocol = url.split("://", 1)[0] if "://" in url else "file"
        self._place: _Place
        if protocol == "file":
            self._place = _Folder(Path(url.removeprefix("file://")).expanduser().absolute())
        else:
            self._place = _Store(url, protocol)

    @property
    def shown(self) -> str:
        """The address for people, without a password."""
        return shown_url(self.url) if "://" in self.url else self.url

    def put(self, name: str, data: bytes) -> None:
        """Write a file, over the one of that name if there is one."""
        with self._told("written"):
            self._place.put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one of that name; says whether it did.

        In a folder exactly one of several at once does. In an object store that depends on the store.
        """
        with self._told("written"):
            return self._place.create(name, data)

    def get(self, name: str) -> bytes:
        """What a file holds. Raises Gone."""
        with self._told("read"):
            return self._place.get(name)

    def get_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The same for many, which a store far away gives together. Raises Gone."""
        with self._told("read"):
            return self._place.get_all(names)

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with self._told("read"):
            return self._place.exists(name)

    def names(self, folder: str) -> list[str]:
        """All files under a folder, sorted; none where there is no such folder."""
        with self._told("read"):
            return sorted(self._place.names(folder))

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._told("changed"):
            self._place.delete(name)

    def tidy(self) -> None:
        """Remove what processes left behind that were killed while they wrote."""
        with self._told("changed"):
            self._place.tidy()

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except (Gone, SettingsError):
            raise
        except FileNotFoundError as error:
            raise Gone(str(error)) from None
        except Exception as error:  # each store has errors of its own
            code = getattr(error, "errno", None)
            advice = _ADVICE.get(code or 0, "see to it")
            reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
            raise StorageError(
                f"The archive in {self.shown} cannot be {what} ({reason.splitlines()[0].rstrip('.')}):"
                f" {advice}, and run it again."
            ) from error


class _Folder:
    """Files of this machine. What is written is on the disk before it has its name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        with self._written(data) as part:
            target = self._target(name)
            part.replace(target)
        _sync(target.parent)

    def create(self, name: str, data: bytes) -> bool:
        with self._written(data) as part:
            target = self._target(name)
            try:
                os.link(part, target)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if target.exists():
                    return False
                part.replace(target)
        _sync(target.parent)
        return True

    def get(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def get_all(self, names: Sequence[str]) -> dict[str, bytes]:
        return {name: self.get(name) for name in names}

    def exists(self, name: str) -> bool:
        return (self._root / name).exists()

    def names(self, folder: str) -> list[str]:
        # Not rglob, which passes over what it may not read, and calls a file an empty folder.
        return [
            Path(at, name).relative_to(self._root).as_posix()
            for at, _, files in os.walk(self._root / folder, onerror=_unless_gone)
            for name in files
        ]

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            (self._root / name).unlink()
            _sync((self._root / name).parent)

    def tidy(self) -> None:
        parts = self._root / _PARTS
        for part in parts.iterdir() if parts.is_dir() else ():
            with suppress(FileNotFoundError):  # another tidies, too
                if part.stat().st_mtime < time.time() - _STALE_S:
                    part.unlink()

    @contextmanager
    def _written(self, data: bytes) -> Iterator[Path]:
        """A file without a name of its own yet; whatever happens, it does not stay."""
        parts = self._root / _PARTS
        _make(parts)
        part = parts / uuid.uuid4().hex
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield part
        finally:
            part.unlink(missing_ok=True)

    def _target(self, name: str) -> Path:
        target = self._root / name
        _make(target.parent)
        return target


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _make(folder: Path) -> None:
    """Make a folder that is still there after the machine has crashed."""
    if not folder.is_dir():
        _make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
            _sync(folder.parent)
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Store:
    """An object store, or whatever else fsspec reaches; it shows no object before all of it is there."""

    def __init__(self, url: str, protocol: str) -> None:
        # Here: nothing else needs it, and a process that has no archive does without.
        from fsspec.core import url_to_fs  # noqa: PLC0415

        try:
            self._store: Any
            self._store, self._root = url_to_fs(url)
        except ImportError as error:
            raise SettingsError(
                f"ARCHIVE_URL begins with {protocol}://, for which a package is missing: {error}."
            ) from None
        except ValueError as error:
            reason = str(error).rstrip(".")
            raise SettingsError(
                f"ARCHIVE_URL cannot be used ({reason}): give a folder, or an address that fsspec knows."
            ) from None

    def put(self, name: str, data: bytes) -> None:
        path = self._path(name)
        self._store.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._store.pipe_file(path, data)

    def create(self, name: str, data: bytes) -> bool:
        path = self._path(name)
        self._store.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._store.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    def get(self, name: str) -> bytes:
        return bytes(self._store.cat_file(self._path(name)))

    def get_all(self, names: Sequence[str]) -> dict[str, bytes]:
        if not names:
            return {}
        by_path = {self._path(name): name for name in names}
        found = self._store.cat([*by_path])
        return {name: bytes(found[path]) for path, name in by_path.items()}

    def exists(self, name: str) -> bool:
        self._store.invalidate_cache()
        return bool(self._store.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        self._store.invalidate_cache()
        try:
            found = self._store.find(self._path(folder))
        except FileNotFoundError:
            return []
        start = len(self._path(""))
        return [path[start:] for path in found]

    def delete(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._store.rm_file(self._path(name))

    def tidy(self) -> None:
        """Nothing: what was not sent to its end is no object."""

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"
