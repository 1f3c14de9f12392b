"""What `kvip doctor` makes of a host and a cluster: facts in, findings out. One file per subject; `judge` asks them all."""
