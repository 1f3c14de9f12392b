"""kvip: announces the virtual IPs of Kubernetes LoadBalancer Services on a layer-2 network, and never leaves one behind."""

__version__ = "0.1.0"
