"""What happens inside the two programs: their rounding, and their narrow types.

The torch side is watched by dispatch modes, the JAX side through its jaxpr. No judgement is made here.
"""
