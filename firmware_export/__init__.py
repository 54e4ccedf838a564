"""ONNX policies as C99 for microcontrollers: translated, measured, and proved on emulated chips.

Import what you need from the modules: `generate.generate`, `host.HostModel`, `in_the_loop.EmulatedPolicy`,
`verify.compare_targets`, `instructions.count_instructions`. This package imports onnx and NumPy, never torch.
"""
