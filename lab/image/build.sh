#!/usr/bin/env bash
# Builds the image where there is no registry of images: on a base that debootstrap makes, with buildah, without a daemon; root only.
# All of it is kept under the cache: buildah's storage with the base, the image's files and its configuration, for the lab to run.
# Does nothing while what the image is made of is as it was. Prints deploy/image.sh's last line. --check: builds nothing, exits 1 instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
suite=bookworm
work="${XDG_CACHE_HOME:-$HOME/.cache}/kvip/image"
sources=(Dockerfile .dockerignore constraints.txt pyproject.toml setup.py)
stamp=$({ cat "${sources[@]}"; find kvip -name '*.py*' ! -name '*.pyc' -type f | sort | xargs cat; } | sha256sum)
if [ "$(cat "$work/stamp" 2>/dev/null)" = "$stamp" ]; then
    cat "$work/summary"
    exit 0
fi
[ "${1:-}" != --check ] || { echo "no image of this tree: make image-lab"; exit 1; }
for tool in debootstrap buildah; do
    command -v "$tool" >/dev/null || { echo "no $tool: apt-get install debootstrap buildah" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "debootstrap and buildah's chroot isolation need root" >&2; exit 1; }
mkdir -p "$work"
exec 9>"$work/lock"
flock 9
printf '[storage]\ndriver = "vfs"\ngraphroot = "%s/storage"\nrunroot = "%s/run"\n' "$work" "$work" >"$work/storage.conf"
export CONTAINERS_STORAGE_CONF="$work/storage.conf" BUILDAH_ISOLATION=chroot

if ! buildah inspect --type image localhost/kvip-base >/dev/null 2>&1; then
    echo "making a Debian $suite ($(date -u +%H:%M:%S)); this takes minutes" >&2
    rm -rf "$work/base"
    # Without a mirror's address debootstrap takes its own default.
    debootstrap --variant=minbase "$suite" "$work/base" ${MIRROR:+"$MIRROR"} >"$work/debootstrap.log" 2>&1 || {
        tail -n 5 "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work"/base/var/cache/apt/* "$work"/base/var/lib/apt/lists/* "$work"/base/usr/share/{doc,man,locale,info}/*
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$work/base" / >/dev/null
    buildah commit --quiet --rm "$container" localhost/kvip-base >/dev/null
    rm -rf "$work/base"
fi

rm -f "$work/stamp"
# Where pip reaches its index by settings and certificates of this machine, the build does too; two empty files are all that stays of them.
flags="--pull=never"
if [ -e /etc/pip.conf ]; then
    certificates=/etc/ssl/certs/ca-certificates.crt
    sed "s#$certificates#/run/build-certificates.crt#" /etc/pip.conf >"$work/pip.conf"
    flags+=" --volume $work/pip.conf:/etc/pip.conf:ro --volume $certificates:/run/build-certificates.crt:ro"
fi
image=localhost/kvip:lab
BUILDER=buildah BASE=localhost/kvip-base BUILD_FLAGS="$flags" IMAGE="$image" deploy/image.sh | tee "$work/build.log"
tail -n 1 "$work/build.log" >"$work/summary"

container=$(buildah from --pull=never "$image")
trap 'buildah rm "$container" >/dev/null' EXIT
rm -rf "$work/rootfs"
cp -a "$(buildah mount "$container")" "$work/rootfs"
buildah umount "$container" >/dev/null
buildah inspect --type image "$image" >"$work/inspect.json"
echo "$stamp" >"$work/stamp"
