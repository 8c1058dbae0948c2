"""Searches for input that what reads it was not made for.

A few seconds in the suite, and always the same. With ``FUZZ_EXAMPLES=100000`` each search goes on
for so many examples, other ones each time; what it finds is shrunk, and belongs into a test.
"""
