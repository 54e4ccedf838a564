"""Recorded episodes on disk: what simulators, robots and demonstrators did, for learners and for people."""
