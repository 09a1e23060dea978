"""From a graph at one input size to the rows that are counted: layout, kinds, fan-out."""
