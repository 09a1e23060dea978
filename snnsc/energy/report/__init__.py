"""From counts and prices to what is shown: the JSON contract, words, CSV, one HTML page."""
