"""The soak: random operations and faults on three nodes, while a checker judges the wire and the kernels.

`plan` decides what happens (a pure function of the seed), `operate` does it, `world` remembers what ought to be true because of it,
`watch` collects what the client's NIC and the kernels say, `checker`, `silence` and `claims` judge, `soak` runs it all, `report` tells.
"""
