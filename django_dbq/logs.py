"""Log lines as key=value, which people read and scrapers parse."""

import json


def logfmt(**pairs: object) -> str:
    """Return the pairs as ``key=value`` text, quoted where a value could be taken for two."""
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in pairs.items())


def _quoted(text: str) -> str:
    plain = text.isprintable() and not set(text) & set(' "=')
    return text if plain else json.dumps(text)
