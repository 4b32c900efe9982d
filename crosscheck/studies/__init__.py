"""One file or folder for each study that goes beyond the suite, from its computation to its page.

A study imports no other study and no command.
"""
