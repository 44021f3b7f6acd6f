"""Which Python it is, and whose; as a script, for a Python that has no more than this.

What most of a worker's time goes to is the interpreter. Distributions build it with optimizations,
and pyenv, unless told otherwise, without: then a worker takes a fifth longer.
"""

import platform
import subprocess
import sys
from pathlib import PurePath


def interpreter() -> str:
    """Return the version of this Python, and who has built it, as far as its place tells that."""
    name = f"Python {platform.python_version()}"
    if ".pyenv" in PurePath(sys.base_prefix).parts:
        return f"pyenv's {name}"
    return f"the system's {name}" if sys.base_prefix == "/usr" else name


def interpreter_of(python: str) -> str:
    """Return the same of another Python, by the path of its program."""
    ran = subprocess.run([python, "-I", __file__], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.strip()


if __name__ == "__main__":
    print(interpreter())
