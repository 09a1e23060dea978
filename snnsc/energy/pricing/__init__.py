"""From counts to energy and to what fits on a chip: `targets/*.toml`, every number with its source."""
