"""Which source files there are to index."""

from collections.abc import Iterator, Sequence
from pathlib import Path

#: Where installed packages lie, inside the library's own directory.
INSTALLED = {"site-packages", "dist-packages"}
#: Where the standard library keeps files that are broken on purpose, for its own tests.
BROKEN = {"lib2to3/tests/data", "test/test_lib2to3/data", "test/tokenizedata"}


def find_sources(library: Path) -> list[str]:
    """Return the paths of the library's own source files, relative to it, in order."""
    return sorted(_sources(library))


def sample(paths: Sequence[str], size: int) -> list[str]:
    """Return ``size`` paths from all over the library, a fifth of them likely to be broken."""
    likely = {path for path in paths if path.rpartition("/")[0] in BROKEN}
    broken = _spread(sorted(likely), size // 5)
    sound = _spread([path for path in paths if path not in likely], size - len(broken))
    return sorted([*broken, *sound])


def _sources(library: Path) -> Iterator[str]:
    for path in library.rglob("*.py"):
        relative = path.relative_to(library)
        if not INSTALLED.intersection(relative.parts) and path.is_file():
            yield relative.as_posix()


def _spread(paths: Sequence[str], size: int) -> list[str]:
    size = min(size, len(paths))
    return [paths[index * len(paths) // size] for index in range(size)]
