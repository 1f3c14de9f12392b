"""The kernel: addresses and links over netlink, frames over packet sockets. No policy."""

from kvip.bare import use_submodules_of

use_submodules_of("pyroute2")
