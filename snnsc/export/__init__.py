"""From a checkpoint to files that other runtimes load, each verified on real samples before it is written."""
