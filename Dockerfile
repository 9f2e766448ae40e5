# docker build -t bild . ; docker run --gpus all bild gpu-check (docs/install.md)
FROM python:3.12-slim
# cu126 runs on drivers from 525 on; CUDA=cu130 needs 580, CUDA=cpu none.
ARG CUDA=cu126
# gcc for what torch and transformers compile, git for the state of the code in every record.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev git make && rm -rf /var/lib/apt/lists/*
WORKDIR /bild
COPY pyproject.toml constraints.txt Makefile README.md ./
COPY bild bild
COPY conf conf
COPY tests tests
RUN pip install --no-cache-dir -c constraints.txt -e '.[dev]' --extra-index-url https://download.pytorch.org/whl/${CUDA}
ENTRYPOINT ["bild"]
CMD ["doctor"]
