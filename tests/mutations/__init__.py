"""Does the suite notice? Each counter-measure of the product taken away, one at a time.

    python -m tests.mutations            # all of them: some minutes, on a copy of the tree
    python -m tests.mutations write      # those whose name has the word

A mutation that no test notices is a hole in the suite, and the exit status is 1.
"""
