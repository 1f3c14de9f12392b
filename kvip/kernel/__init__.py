"""The kernel: addresses and links over netlink, frames over packet sockets. No policy."""
