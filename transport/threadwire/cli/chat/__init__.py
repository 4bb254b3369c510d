"""`threadwire chat`: talk to an agent of a server, from a terminal or over a pipe."""
