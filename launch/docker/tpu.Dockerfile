# stgrpo on TPUs:
#   docker build -f launch/docker/tpu.Dockerfile -t REGISTRY/stgrpo:tpu .
# launch/kubernetes/tpu.yaml runs it. Ends as the program does, and passes signals on to it. The user is root, to whom the
# chips of a host belong.
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
ENV PYTHONUNBUFFERED=1
WORKDIR /stgrpo
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stgrpo ./stgrpo
RUN pip install --no-cache-dir '.[tpu]'
COPY configs ./configs
ENTRYPOINT ["tini", "--", "stgrpo"]
