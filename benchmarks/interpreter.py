"""Which Python it is, and whose; as a script, for a Python that has no more than this.

What most of a worker's time goes to is the interpreter. Distributions build it with optimizations,
and pyenv, unless told otherwise, without: then a worker takes a fifth longer.
"""

import platform
import subprocess
import sys
import sysconfig
from pathlib import PurePath


def interpreter() -> str:
    """Return the version of this Python, and who has built it or how, as far as it tells."""
    name = f"Python {platform.python_version()}"
    if ".pyenv" in PurePath(sys.base_prefix).parts:
        name = f"pyenv's {name}"
    elif sys.base_prefix == "/usr":
        name = f"the system's {name}"
    # Debian's is optimized as well, but not by the option, and so does not tell.
    optimized = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"{name} (built with optimizations)" if optimized else name


def interpreter_of(python: str) -> str:
    """Return the same of another Python, by the path of its program."""
    ran = subprocess.run([python, "-I", __file__], check=True, stdout=subprocess.PIPE, text=True)
    return ran.stdout.strip()


if __name__ == "__main__":
    print(interpreter())
