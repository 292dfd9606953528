# Two targets: `counting` has no torch; `scoring` has it (its CPU build), the HTTP service and the statistics.
# The dependencies' files have hashes (deploy/requirements-*.txt); torch is apart, since its builds differ.
FROM python:3.11.14-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

FROM base AS counting-packages
RUN python -m venv /venv
COPY deploy/requirements-counting.txt /tmp/
RUN /venv/bin/python -m pip install --require-hashes --no-deps -r /tmp/requirements-counting.txt

FROM counting-packages AS scoring-packages
COPY deploy/requirements-scoring.txt deploy/requirements-torch.txt /tmp/
RUN /venv/bin/python -m pip install --require-hashes --no-deps -r /tmp/requirements-scoring.txt \
    && /venv/bin/python -m pip install --no-deps \
    --extra-index-url https://download.pytorch.org/whl/cpu -r /tmp/requirements-torch.txt

FROM base AS checkout
WORKDIR /app
COPY features features
COPY models models
COPY producers producers
COPY consumers consumers
COPY service service
COPY hitparade hitparade
COPY deploy/healthy.py deploy/
RUN python -m compileall -q .

FROM base AS runtime
RUN groupadd --gid 10001 hitparade \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin hitparade \
    && install --directory --owner 10001 --group 10001 /data
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app \
    HITPARADE_DATA_DIR=/data \
    MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /app
COPY --from=checkout /app /app
USER 10001:10001
ENTRYPOINT ["python", "-m", "hitparade"]
CMD ["--help"]

FROM runtime AS counting
COPY --from=counting-packages /venv /venv

FROM runtime AS scoring
COPY --from=scoring-packages /venv /venv
