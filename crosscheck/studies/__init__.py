"""One file or folder per study beyond the suite, from its computation to its page.

A study imports no other study and no command.
"""
