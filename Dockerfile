# Two images of one code: `service` runs every part of the pipeline, `jupyter` has the notebooks beside it.
# Only what every builder knows: no syntax line, no mounts, no here-documents.

ARG PYTHON_IMAGE=python:3.12-slim

# --- what both are built from: the code, compiled, and nothing that it can write to
FROM ${PYTHON_IMAGE} AS code
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN ["python", "-m", "venv", "/opt/venv"]
WORKDIR /app
COPY requirements-service.txt ./
RUN ["/opt/venv/bin/pip", "install", "--quiet", "--require-hashes", "--requirement", "requirements-service.txt"]
COPY pyproject.toml README.md alembic.ini ./
COPY alembic/ alembic/
COPY pipeline/ pipeline/
COPY producer/ producer/
COPY consumer/ consumer/
COPY jobs/ jobs/
COPY analytics/ analytics/
COPY infamous/ infamous/
COPY bench/ bench/
COPY redash_queries/ redash_queries/
# In place, so that the migrations are found beside the code; then what only installing needs goes away.
RUN /opt/venv/bin/pip install --quiet --no-deps --no-build-isolation --editable . \
    && /opt/venv/bin/pip uninstall --quiet --yes setuptools \
    && /opt/venv/bin/python -m compileall -q alembic analytics bench consumer infamous jobs pipeline producer \
    # Whatever the clone's own rights are: everybody reads, nobody writes.
    && chmod -R a+rX,go-w /app

FROM code AS notebooks
COPY requirements-jupyter.txt ./
RUN ["/opt/venv/bin/pip", "install", "--quiet", "--require-hashes", "--requirement", "requirements-jupyter.txt"]

# --- what runs: one user without a name on the host, who owns nothing here
FROM ${PYTHON_IMAGE} AS base
RUN useradd --uid 10001 --user-group --home-dir /home/infamous --create-home --shell /usr/sbin/nologin infamous
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001

FROM base AS jupyter
COPY --from=notebooks /opt/venv /opt/venv
COPY --from=notebooks /app /app
COPY docker/jupyter/jupyter_server_config.py /opt/venv/etc/jupyter/
COPY docker/jupyter/overrides.json /opt/venv/share/jupyter/lab/settings/
# A volume that is mounted here is the user's from its first use.
USER root
RUN chmod -R a+rX /opt/venv/etc/jupyter /opt/venv/share/jupyter/lab/settings \
    && install -d -o infamous -g infamous /home/infamous/work && ln -s /app/analytics/notebooks /home/infamous/notebooks
USER 10001:10001
WORKDIR /home/infamous
EXPOSE 8888
CMD ["jupyter", "lab"]

FROM base AS service
COPY --from=code /opt/venv /opt/venv
COPY --from=code /app /app
CMD ["infamous", "--help"]
