"""Executable threshold circuits: gates as data, builders for arithmetic, a bit-parallel evaluator.

A gate has integer weights w and an integer threshold t; it is true if the weights of its true
inputs add up to t or more. Weights may be large (2**p for p-bit numbers). Goldmann and Karpinski
(1992) turn such a circuit of depth d into one of majority gates, polynomially larger, of depth
d + 1.
"""
