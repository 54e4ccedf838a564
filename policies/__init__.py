"""Learning: networks, algorithms (one file each), training runs, and the export of a policy to one ONNX file."""
