# The environment of `make env` in an image, with JupyterLab as a user who is not root:
#   docker build --tag dark . && docker run --publish 8888:8888 dark
FROM python:3.11-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home reader \
 && install --directory --owner reader /dark
USER reader
WORKDIR /dark
# What the environment is made from comes first, so that a changed notebook does not build it anew.
COPY --chown=reader Makefile settings.ini setup.py pyproject.toml constraints.txt README.md ./
COPY --chown=reader dark dark
RUN make PYTHON=python env
COPY --chown=reader . .
EXPOSE 8888
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "nbs/index.ipynb"]
