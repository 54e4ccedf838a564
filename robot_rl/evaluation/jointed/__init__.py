"""Measuring and watching policies of robots with joints: walking, hands, arms.

The exported file acts in the task's own environment, so torch is needed, in contrast to the evaluation of flight. It is
imported within functions.
"""
