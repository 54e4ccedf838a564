"""For colcon, which needs this file; everything is in pyproject.toml."""

from setuptools import setup

setup()
