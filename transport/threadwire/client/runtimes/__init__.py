"""What client code holds: a thread with its messages, branches and composer, whoever owns them."""
