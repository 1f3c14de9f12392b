"""An API server in one process, for tests and the demo: the resources that kvip uses, with the semantics of the real one.

`status` errors, `paths` requests read, `resources` and `services` what each kind is and refuses, `selectors` and `patch` pure helpers,
`store` objects and their history, `lists` pages, `watch` streams, `faults` what is broken on purpose, `server` HTTP.
Measured against kube-apiserver v1.34.4; what differs is written where it does.
"""

from lab.apiserver.server import ApiServer

__all__ = ["ApiServer"]
