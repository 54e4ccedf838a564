"""For colcon, which needs this file and python_requires as a plain string; everything else is in setup.cfg."""

from setuptools import setup

setup(python_requires=">=3.10")
