"""From a file to straight nodes: what a graph is, whoever wrote it; no shapes and no samples yet."""
