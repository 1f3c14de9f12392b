"""The Kubernetes API: transport, decoding, informers and the few writes. No policy."""
