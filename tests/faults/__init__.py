"""The faults that a queue has to live with, injected for real: ``python -m tests.faults``.

Each scenario is a short function in a module named for the kind of fault. ``harness`` gives it a
fleet of real workers and a pile of jobs; at the end ``reckoning`` settles accounts: what the tasks
noted outside of the database, against what the table and its history say.
"""
