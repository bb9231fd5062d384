"""The text of a run to walk around in: what is shown of each position and where, and the ways between them.

Knows NumPy and no Textual. A *place* is an index into the positions in reading order, by chunk, then depth.
"""
