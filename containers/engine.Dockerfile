# SPDX-License-Identifier: BSD-3-Clause
# diffrun's own engine behind the contract `diffrun-entry imageDifference.py ...`. From the top of the project:
#     docker build -f containers/engine.Dockerfile -t diffrun-engine .
# BASE is any glibc system with Python 3.11, its venv module and bash. A folder containers/wheelhouse, if there,
# is used instead of the network; either way each file must have one of the sums of requirements.lock.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
COPY containers/ /build/
RUN set -eu; \
    python3 -m venv /opt/diffrun/python; \
    offline=; [ ! -d /build/wheelhouse ] || offline="--no-index --find-links /build/wheelhouse"; \
    /opt/diffrun/python/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check $offline \
        --only-binary :all: --require-hashes -r /build/requirements.lock; \
    /opt/diffrun/python/bin/pip uninstall -q -y pip setuptools
COPY src/diffrun /opt/diffrun/lib/diffrun
COPY configs /opt/diffrun/lib/diffrun/configs
# Compiled kernels are found again by the size and time of their source, so no time may have a fraction.
RUN set -eu; \
    site=$(/opt/diffrun/python/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
    echo /opt/diffrun/lib > "$site/diffrun.pth"; \
    mkdir /opt/diffrun/bin; \
    install -m 755 /build/imageDifference.py /build/makeCalexp.py /build/diffrun /opt/diffrun/bin/; \
    install -m 644 /build/engine-setup.sh /opt/diffrun/setup.sh; \
    find /opt/diffrun/lib -exec touch -h -d @1480291200 {} +; \
    /opt/diffrun/python/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/diffrun; \
    NUMBA_CACHE_DIR=/opt/diffrun/kernels bash /build/warm /tmp/warm; \
    chmod -R a+rX /opt/diffrun

FROM ${BASE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="diffrun-engine" \
      org.opencontainers.image.description="imageDifference.py and makeCalexp.py by diffrun's own engine" \
      org.opencontainers.image.licenses="BSD-3-Clause" \
      org.opencontainers.image.version="${VERSION}" \
      org.diffrun.program="engine"
COPY --from=build /opt/diffrun /opt/diffrun
COPY containers/diffrun-entry /usr/local/bin/diffrun-entry
RUN chmod 755 /usr/local/bin/diffrun-entry && mkdir -p /input /output /config && ldconfig
ENV PATH=/opt/diffrun/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1
USER 65534:65534
WORKDIR /
ENTRYPOINT ["/usr/local/bin/diffrun-entry"]
CMD ["imageDifference.py", "--help"]
