"""The verbs of the command line: the only place where simulation, policies, hardware and firmware meet."""
