"""What lies in the repository's folder, seen from outside: which packages, and whether their files have changed.

Opens no file: times, sizes and names are enough to say that a package need not be read again.
"""

from dataclasses import dataclass
from pathlib import Path

from service.errors import PackageError
from service.manifest import MANIFEST_FILE, Manifest, read_manifest
from service.runtime.repository import find_packages

# Name, time of the last change in ns, size and inode of each file.
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A folder `NAME/VERSION`, and what its files look like."""

    folder: Path
    stamp: Stamp

    @property
    def name(self) -> str:
        """The model's."""
        return self.folder.parent.name

    @property
    def key(self) -> str:
        """`NAME/VERSION`."""
        return f"{self.name}/{self.folder.name}"

    @property
    def has_manifest(self) -> bool:
        """Whether this is a package already, or still: who copies a folder may not have come to the manifest."""
        return any(name == MANIFEST_FILE for name, *_ in self.stamp)

    def holds(self, manifest: Manifest) -> bool:
        """Whether its manifest is this one, which vouches for every file. Reads it."""
        try:
            return read_manifest(self.folder) == manifest
        except PackageError:
            return False


def look(root: Path) -> dict[str, Found]:
    """Every package under `root` by its key, by name and version.

    Raises PackageError if `root` is not a folder or cannot be read.
    """
    packages = [Found(folder, _stamp(folder)) for folder in find_packages(root)]
    return {package.key: package for package in packages}


def _stamp(folder: Path) -> Stamp:
    """Nothing where the files cannot be seen: a file that has just gone or a disk that fails are no reason to act."""
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except OSError:
        return ()
    return tuple((name, stat.st_mtime_ns, stat.st_size, stat.st_ino) for name, stat in stats)
