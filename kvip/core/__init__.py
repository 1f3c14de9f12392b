"""The decisions: pure functions of frozen data. Nothing here reads a clock, a socket or a file."""
