"""Batched rigid-body quadrotor flight."""
