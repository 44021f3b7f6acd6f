"""Other job queues, each in a folder and a virtual environment of its own, for comparison.

Every folder has a script with the same commands: ``peer.py create N | enqueue N | work | left |
describe``.
"""
