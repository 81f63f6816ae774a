# Zegel in a container: no shell needed, not root, nothing written but the volume. See docs/running.md and compose.yaml.
#
#   docker build -t zegel .
#   docker run --rm -v zegel:/srv/zegel zegel init /srv/zegel/gateway --hostname relay.example.org --yes

FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
RUN python3 -m venv /opt/zegel
# What is depended on first: it changes less often than the program. The lock says which versions.
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY relay/__init__.py relay/__init__.py
COPY policies/__init__.py policies/__init__.py
RUN /opt/zegel/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock .
COPY relay relay
COPY policies policies
RUN /opt/zegel/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall . \
    && /opt/zegel/bin/pip uninstall --yes pip setuptools \
    && /opt/zegel/bin/python -m compileall -q -j 0 /opt/zegel

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && install -d -o 10001 -g 10001 -m 0700 /srv/zegel
COPY --from=build /opt/zegel /opt/zegel
ENV PATH=/opt/zegel/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    ZEGEL_CONFIG=/srv/zegel/gateway/zegel.toml
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /srv/zegel
VOLUME /srv/zegel
EXPOSE 465 587 8025
STOPSIGNAL SIGTERM
# Whether its web process answers; what stops mail is told by /readyz and the alerts, and no restart would mend it.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8025/healthz', timeout=4)"]
ENTRYPOINT ["zegel"]
CMD ["serve"]
