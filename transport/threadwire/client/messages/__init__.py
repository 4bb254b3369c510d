"""Thread messages: what they are, how others' messages become them, and the tree they stand in.

Nothing in here waits, connects or calls a server.
"""
