"""Robots with joints and contacts: what they are, their actuators, and the environment their tasks share."""
