"""From array-agnostic equations to vectorised native code: expressions, their adjoints, C++ and the system compiler."""
