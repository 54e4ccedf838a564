"""Cloning from demonstrations: the heads that plan chunks of actions, and the eyes of those that see pictures."""
