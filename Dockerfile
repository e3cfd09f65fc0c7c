# One image for worker, beat, Flower and migrations: the command says which.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/build && python -m venv --without-pip /opt/turnmill
COPY constraints/build.txt constraints/worker.txt constraints/
RUN /opt/build/bin/pip install --no-deps --require-hashes --requirement constraints/build.txt
RUN /opt/build/bin/pip --python /opt/turnmill/bin/python install \
        --no-deps --only-binary :all: --require-hashes --requirement constraints/worker.txt
COPY pyproject.toml README.md LICENSE ./
COPY api_client api_client
COPY worker worker
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/turnmill/bin/python install --no-deps --no-index dist/*.whl


FROM python:3.13-slim
LABEL org.opencontainers.image.title="Turnmill" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/turnmill turnmill
COPY --from=build /opt/turnmill /opt/turnmill
ENV PATH=/opt/turnmill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TURNMILL_HOME=/var/lib/turnmill
USER 10001
WORKDIR /var/lib/turnmill
VOLUME /var/lib/turnmill
# True of a worker. Beat, Flower and migrations have a check of their own, or none: docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["turnmill", "health", "worker"]
CMD ["turnmill", "worker"]
