"""Recorded episodes on disk: what was demonstrated, for learners and for people."""
