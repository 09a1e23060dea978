"""Arms side by side: run folders in, table and picture out; training is never touched, torch only counts parameters.

runs.read_runs -> arms.group -> summary.summarise -> table.cells, differences
                                                  -> picture.draw
"""
