"""Base policies: classical controllers and other things that propose commands and that learning may refine.

Each file here defines one `BASE`; what the flight controllers share lives in `flight/`.
"""
