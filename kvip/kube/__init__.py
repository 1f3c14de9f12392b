"""The Kubernetes API: transport, decoding, informers and the few writes. No policy."""

from kvip.bare import use_submodules_of

use_submodules_of("kubernetes")
use_submodules_of("kubernetes.aio")
