#!/usr/bin/env bash
# Builds the image with the first of docker, podman and buildah that works here; prints its size, and how long a container takes to answer.
# IMAGE=name:tag  BASE=image of a Debian  BUILDER=docker|podman|buildah  BUILD_FLAGS="further flags of the builder's build command"
set -euo pipefail
cd "$(dirname "$0")/.."
image=${IMAGE:-kvip:$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' kvip/__init__.py)}
runs=5

works() { command -v "$1" >/dev/null && "$1" info >/dev/null 2>&1; }
builder=${BUILDER:-}
for candidate in docker podman buildah; do
    [ -n "$builder" ] || ! works "$candidate" || builder=$candidate
done
[ -n "$builder" ] || { echo "no image builder: docker, podman or buildah is needed, with a daemon that answers where it has one" >&2; exit 1; }

read -ra flags <<<"${BUILD_FLAGS:-} ${BASE:+--build-arg BASE=$BASE}"
SECONDS=0
if [ "$builder" = buildah ]; then
    buildah bud ${flags[@]+"${flags[@]}"} -t "$image" .
    size=$(buildah images --format '{{.Size}}' "$image" | head -n 1)
    container=$(buildah from "$image")
    trap 'buildah rm "$container" >/dev/null' EXIT
    run() { buildah run "$container" -- kvip "$@"; }
else
    "$builder" build ${flags[@]+"${flags[@]}"} -t "$image" .
    size="$(($("$builder" image inspect --format '{{.Size}}' "$image") / 1000000)) MB"
    run() { "$builder" run --rm "$image" "$@"; }
fi
took=$SECONDS
answer=$(run --version)
began=$(date +%s%N)
for _ in $(seq "$runs"); do run --version >/dev/null; done
echo "$image ($answer): built by $builder in $took s, $size, a container answers --version in $((($(date +%s%N) - began) / 1000000 / runs)) ms"
