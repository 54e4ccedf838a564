"""Hands that turn what they hold."""
