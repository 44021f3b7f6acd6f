#!/usr/bin/env python
"""Django's command line for the example project; it works from any directory."""

import os
import sys
from pathlib import Path

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    # The project is the package `examples`, which stands in the directory above this file's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.settings")
    execute_from_command_line(sys.argv)
