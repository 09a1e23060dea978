"""The exact grid: weights so rounded that every sum that decides a spike is exact, in any order and in every runtime.

spans (how large and how fine a value can be) -> exact (the spans of a whole graph: is every sum exact?)
-> plan (how finely each layer may be rounded) -> snap (a network on its grid) -> prove (the trial, on samples)
"""
