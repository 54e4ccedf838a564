"""Environments of another project in a process of their own, perhaps under another interpreter.

Nothing here imports robot_rl, and all of it runs on Python 3.9 with numpy and gymnasium 0.29 or later, because suites
pin old versions. `process.py` beside this folder starts it by its place, as a package called `robot_rl_worker`.
Messages are JSON texts behind their length; numbers lie in memory that both sides map. Nothing is unpickled.
"""
