"""A LAN in network namespaces with an API server, for tests, benchmarks and the demo; not part of the image."""
