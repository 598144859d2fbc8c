# stgrpo on NVIDIA GPUs; CUDA comes with the packages, the driver with the host (nvidia-container-toolkit):
#   docker build -f launch/docker/cuda.Dockerfile --target trainer -t REGISTRY/stgrpo:cuda .
#   docker build -f launch/docker/cuda.Dockerfile --target vllm -t REGISTRY/stgrpo:vllm .     # and vLLM, in /opt/vllm
#   docker run --rm --gpus=all --shm-size=16g -v /shared:/work REGISTRY/stgrpo:cuda run --config=... --workdir=/work/burger
# The user is number 1000: /work must be writable for it. Ends as the program does, and passes signals on to it.
FROM python:3.12-slim AS trainer
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* && \
    useradd --create-home --uid 1000 stgrpo && install -d -o stgrpo /work
ENV PYTHONUNBUFFERED=1
WORKDIR /stgrpo
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stgrpo ./stgrpo
RUN pip install --no-cache-dir '.[cuda]'
COPY configs ./configs
USER 1000
ENTRYPOINT ["tini", "--", "stgrpo"]

FROM trainer AS vllm
USER root
# Triton compiles with a C compiler when it runs.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/* && \
    python -m venv /opt/vllm && /opt/vllm/bin/pip install --no-cache-dir 'vllm>=0.26'
USER 1000
