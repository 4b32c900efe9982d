"""The mistakes that a port of an LSTM can have, as data, and the reference with any one of them.

``catalogue.FAULTS`` names them. ``faulty.runner(fault, case)`` runs the reference with one of them. Nothing here may
judge a result.
"""
