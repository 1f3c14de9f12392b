"""The running daemon: wires core, kernel and kube together."""
