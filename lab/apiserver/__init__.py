"""An API server in one process, for tests and the demo: the resources that kvip uses, with the semantics of the real one.

`status` errors, `resources` what each kind is and validates, `selectors` and `patch` pure helpers, `store` objects and their history,
`faults` what is broken on purpose, `watch` streams, `server` HTTP. Measured against kube-apiserver v1.34.4; what differs is written where it does.
"""

from lab.apiserver.server import ApiServer

__all__ = ["ApiServer"]
