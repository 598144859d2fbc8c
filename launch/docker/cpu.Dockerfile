# stgrpo on CPUs, for a try and for tests:
#   docker build -f launch/docker/cpu.Dockerfile -t stgrpo:cpu .
#   docker run --rm -v "$PWD/runs:/work" stgrpo:cpu run --config=configs/tiny.py:smoke --workdir=/work/smoke
# The user is number 1000: /work must be writable for it. Ends as the program does, and passes signals on to it.
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* && \
    useradd --create-home --uid 1000 stgrpo && install -d -o stgrpo /work
ENV GLIBC_TUNABLES=glibc.malloc.hugetlb=1 PYTHONUNBUFFERED=1
WORKDIR /stgrpo
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY stgrpo ./stgrpo
RUN pip install --no-cache-dir .
COPY configs ./configs
USER 1000
ENTRYPOINT ["tini", "--", "stgrpo"]
