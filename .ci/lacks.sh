# Why this machine cannot run a stage, in a line; nothing when it can. Sourced by .ci/run and .ci/beside.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/kvip"

has() { command -v "$1" >/dev/null; }

asset() { [ -x "${KUBEBUILDER_ASSETS:-}/$1" ] || ls "$cache"/assets/*/"$1" >/dev/null 2>&1; } # name: is it built already?

real_lacks() {
    has go || [ -n "${KUBEBUILDER_ASSETS:-}" ] || asset kube-apiserver ||
        echo "no real API server: there is no Go toolchain and no assets; set KUBEBUILDER_ASSETS or install Go"
}

helm_lacks() {
    local said
    if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
        [ -x "$KUBEBUILDER_ASSETS/helm" ] || has helm || echo "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no helm, and PATH has none"
    elif ! has go; then
        { asset helm && asset kube-apiserver; } || echo "no Go toolchain to build helm with, and none was built"
    elif ! asset helm; then
        said=$(cd lab/assets/helm && timeout 120 go mod download helm.sh/helm/v3 2>&1) || echo "Go does not get helm's module: ${said##*$'\n'}"
    fi
}

image_lacks() {
    local tool
    [ "$(id -u)" = 0 ] || { echo "debootstrap and buildah's chroot isolation need root"; return; }
    for tool in debootstrap buildah crun; do
        has "$tool" || { echo "no $tool: apt-get install debootstrap buildah crun"; return; }
    done
    [ -d "$cache/image/storage" ] || reachable "${MIRROR:-http://deb.debian.org/debian}/dists/bookworm/Release"
}

reachable() { # URL: why it cannot be read, "" = it can
    python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=20).read(1)' "$1" 2>/dev/null ||
        echo "Debian's mirror does not answer at $1; MIRROR=URL names another"
}

browser_lacks() {
    "${VENV:-.venv}/bin/python" -m lab.browser >/dev/null && return
    [ "$(id -u)" = 0 ] && has apt-get || { "${VENV:-.venv}/bin/python" -m lab.browser 2>&1 || true; return; }
    apt-get update -qq >/dev/null 2>&1 || true
    apt-cache show chromium-headless-shell >/dev/null 2>&1 || echo "no Chromium here, and apt has no chromium-headless-shell"
}

history_lacks() {
    "${VENV:-.venv}/bin/python" -c "from lab.previous import missing; print(missing())"
}

