"""Code for type checkers, which nothing imports: ``correct`` must pass, ``mistakes`` must not."""
