"""A small Django project that shows django-dbq at work: an index of the standard library."""
