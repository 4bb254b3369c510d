"""Thread messages: what they are, how others' messages become them, and the tree they stand in.

Clients have them, and what hosts a chat model on a server. Nothing in here connects or calls a server.
"""
