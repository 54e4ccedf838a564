"""Measuring a policy: closed-loop episodes on the flight simulator, metrics with intervals, reports and pictures.

Part of the layer that composes everything, like the command line: simulator, policies and plotting are imported inside
the functions that need them, so importing this package costs nothing. It needs no torch.
"""
