# The image of kvip: a wheel stage that compiles, and a stage with Python, nft and kvip alone. `make image` builds it.
#
# BASE is a Debian whose Python is 3.11 or newer; both stages use it, so that the environment made in one runs in the other.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS wheel
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev python3-dev python3-venv
RUN python3 -m venv /build
WORKDIR /src
COPY constraints.txt ./
RUN /build/bin/pip install --no-cache-dir -c constraints.txt setuptools wheel Cython
COPY pyproject.toml setup.py README.md ./
COPY kvip kvip
RUN /build/bin/pip wheel --no-build-isolation --no-deps --wheel-dir /wheels .
RUN python3 -m venv --without-pip /opt/kvip \
 && /build/bin/pip --python /opt/kvip/bin/python install --no-cache-dir --no-compile -c constraints.txt /wheels/*.whl
# Of the Kubernetes client kvip imports the transport and the authentication of kubernetes.aio. The generated API classes and models and the
# synchronous client are 120 of its 126 MB, and some packages are there for that client alone (tests/unit/deploy/test_dockerfile.py).
RUN cd /opt/kvip/lib/python3*/site-packages/kubernetes \
 && find . -mindepth 1 -maxdepth 1 ! -name aio ! -name __init__.py -exec rm -r {} + \
 && find aio/client/api aio/client/models -name '*.py' ! -name __init__.py -delete \
 && /build/bin/pip --python /opt/kvip/bin/python uninstall --yes \
      certifi charset-normalizer durationpy oauthlib requests requests-oauthlib urllib3 websocket-client \
 && rm -r /opt/kvip/bin/[Aa]ctivate*
# The root is read-only where kvip runs: what is not compiled here would be compiled at each start. In setup.py the extension is optional.
RUN /opt/kvip/bin/python -m compileall -q /opt/kvip/lib \
 && /opt/kvip/bin/python -I -c 'import kvip._arp, kvip._rtnl, kvip.cli.manager, kvip.cli.manifest, kvip.cli.sweep, kvip.cli.cluster_vips; import kvip.observe.page as it; it.policy()'

FROM ${BASE}
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends nftables python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*.log /var/log/apt
COPY --from=wheel /opt/kvip /opt/kvip
ENV PATH=/opt/kvip/bin:/usr/sbin:/usr/bin:/sbin:/bin
# NET_ADMIN and NET_RAW reach only root: Kubernetes sets no ambient capabilities.
USER 0
# kvip is PID 1: it takes SIGTERM itself, lets go of everything, and reaps its one kind of child, nft.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/kvip/bin/kvip"]
CMD ["manager"]
