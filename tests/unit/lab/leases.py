"""Leases as tests of the embedded API server create them."""


def lease(name="l", *, holder="n1", **spec):
    return {"metadata": {"name": name}, "spec": {"holderIdentity": holder, "leaseDurationSeconds": 5, **spec}}
