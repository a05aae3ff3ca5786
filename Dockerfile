# Two images of one code: `service` runs every part of the pipeline, `jupyter` has the notebooks beside it. What
# changes seldom comes first, so that an update of the code is a layer of two megabytes.
#
# Only what every builder knows: no syntax line, no mounts, no here-documents.

ARG PYTHON_IMAGE=python:3.12-slim

# --- other people's packages, each by its hash; the venv has no pip and nothing that builds
FROM ${PYTHON_IMAGE} AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1
COPY requirements-service.txt ./
RUN python -m venv --without-pip /opt/venv \
    && pip --python /opt/venv/bin/python install --require-hashes --requirement requirements-service.txt \
    && pip --python /opt/venv/bin/python uninstall --yes setuptools \
    # The code stays in its folder, where the migrations are found beside it.
    && echo /app > "$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/infamous.pth" \
    && printf '#!/opt/venv/bin/python\nfrom infamous.__main__ import main\n\nmain()\n' > /opt/venv/bin/infamous \
    && chmod 755 /opt/venv/bin/infamous

FROM packages AS jupyter-packages
COPY requirements-jupyter.txt ./
RUN pip --python /opt/venv/bin/python install --require-hashes --requirement requirements-jupyter.txt \
    && pip --python /opt/venv/bin/python uninstall --yes setuptools

# --- our code, compiled; whatever the clone's own rights are, everybody reads it and nobody writes
FROM ${PYTHON_IMAGE} AS code
WORKDIR /app
COPY alembic.ini ./
COPY alembic/ alembic/
COPY pipeline/ pipeline/
COPY producer/ producer/
COPY consumer/ consumer/
COPY jobs/ jobs/
COPY analytics/ analytics/
COPY infamous/ infamous/
COPY redash_queries/ redash_queries/
COPY docker/jupyter/ docker/jupyter/
RUN python -m compileall -q . && chmod -R a+rX,go-w .

# --- what runs: one user without a name on the host, who owns nothing here
FROM ${PYTHON_IMAGE} AS base
RUN useradd --uid 10001 --user-group --home-dir /home/infamous --create-home --shell /usr/sbin/nologin infamous
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app

FROM base AS jupyter
COPY --from=jupyter-packages /opt/venv /opt/venv
# A volume that is mounted there is the user's from its first use.
RUN install -d -o infamous -g infamous /home/infamous/work /home/infamous/reports /reports \
    && ln -s /app/analytics/notebooks /home/infamous/notebooks \
    && install -d /opt/venv/etc/jupyter /opt/venv/share/jupyter/lab/settings \
    && ln -s /app/docker/jupyter/jupyter_server_config.py /opt/venv/etc/jupyter/ \
    && ln -s /app/docker/jupyter/overrides.json /opt/venv/share/jupyter/lab/settings/
COPY --from=code /app /app
USER 10001:10001
WORKDIR /home/infamous
EXPOSE 8888
CMD ["jupyter", "lab"]

FROM base AS service
COPY --from=packages /opt/venv /opt/venv
# A volume that is mounted there is the user's from its first use.
RUN install -d -o infamous -g infamous /archive
COPY --from=code /app /app
USER 10001:10001
CMD ["infamous", "--help"]
