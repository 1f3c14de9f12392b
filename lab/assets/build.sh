#!/usr/bin/env bash
# Builds the real API server (etcd, kube-apiserver, kubectl) and the client-go peer from Go modules into the cache, once; with the
# argument "helm", helm alone, which only the chart's tests want.
# Prints the directory that holds the binaries; with KUBEBUILDER_ASSETS set, prints that and builds nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
version=$(awk '$1 == "k8s.io/kubernetes" || $2 == "k8s.io/kubernetes" {print $NF; exit}' "$here/kube/go.mod")
if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    for binary in etcd kube-apiserver kubectl; do
        [ -x "$KUBEBUILDER_ASSETS/$binary" ] || { echo "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no executable $binary; unset it, or add the file" >&2; exit 1; }
    done
    echo "$KUBEBUILDER_ASSETS"
    exit 0
fi
out="${XDG_CACHE_HOME:-$HOME/.cache}/kvip/assets/$version"
mkdir -p "$out"
command -v go >/dev/null || [ -x "$out/etcd" -a -x "$out/kube-apiserver" -a -x "$out/kubectl" -a -x "$out/peer" ] || {
    echo "no Go toolchain and no assets in $out: install Go 1.24 or newer, or set KUBEBUILDER_ASSETS" >&2; exit 1; }

build() { # directory, package, ldflags
    local binary
    binary=$(basename "$2"); [ "$1" = etcd ] && binary=etcd
    [ -x "$out/$binary" ] && return 0
    echo "building $binary ($(date -u +%H:%M:%S)); the first time takes minutes" >&2
    (cd "$here/$1" && CGO_ENABLED=0 GOFLAGS='-buildvcs=false -mod=readonly' go build -trimpath -ldflags "-s -w $3" -o "$out/.$binary.$$" "$2") >&2
    mv "$out/.$binary.$$" "$out/$binary"
}
stamp="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(echo "$version" | cut -d. -f2)"
if [ "${1:-}" = helm ]; then
    build helm helm.sh/helm/v3/cmd/helm "-X helm.sh/helm/v3/internal/version.version=$(awk '$1 == "helm.sh/helm/v3" {print $2; exit}' "$here/helm/go.mod")"
    echo "$out"
    exit 0
fi
build etcd go.etcd.io/etcd/server/v3 ""
build kube k8s.io/kubernetes/cmd/kubectl "$stamp"
build kube k8s.io/kubernetes/cmd/kube-apiserver "$stamp"
command -v go >/dev/null && [ "$here/kube/peer/main.go" -nt "$out/peer" ] && rm -f "$out/peer"
build kube ./peer ""
echo "$out"
