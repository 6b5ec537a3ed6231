# Everything starts here; each target builds the environment by itself if it is missing.
#
#   make env        build .venv with everything that is needed
#   make reproduce  run every notebook on the embedded phantom data: all tables and figures, and a report
#   make test       export in sync, library notebooks, tests, style, and the whole pipeline on the smallest profile
#   make test-hard  runs that are killed, have no room or no memory: half an hour
#   make test-browser  JupyterLab and the site in a browser; needs a Chromium
#   make docs       build the documentation site: _docs/index.html
#   make lab        open JupyterLab
#   make readme     make README.md from nbs/index.ipynb
#   make teachers   train the phantom's teachers anew, the misled ones too: where they come with the compendium
#   make students   pack the phantom's trained students as safetensors, with a card, into data/runs/phantom/students
#   make cards      write the phantom's datasheet, data/phantom.md
#   make outputs    run every library notebook, and those for readers, and keep what they show
#   make pins       write the versions that are installed into constraints.txt
#   make check-pins ask whether all of them are there, for this machine and for a Mac
#   make publish    put what was run into notebooks, README, the claims page and reports
#   make promises   run the tests of bad input and write what they were told: figures/promises.csv
#   make clean      remove what can be made again; downloads and the environment stay

.DEFAULT_GOAL := help
.PHONY: help env reproduce test test-hard test-browser docs lab readme teachers students cards outputs publish \
        promises pins check-pins clean

STAMP := .venv/.installed
MAC := 15_0_arm64 14_0_arm64 13_0_arm64 12_0_arm64 11_0_arm64 10_13_universal2 10_9_universal2

help:
	@sed -n 's/^#   //p' Makefile

env: $(STAMP)

# The requirements are in settings.ini: when they change, the environment is brought up to date.
$(STAMP): settings.ini setup.py pyproject.toml constraints.txt
	@if [ ! -x .venv/bin/python ]; then \
	  for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
	    if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	      echo "Building .venv with $$python (a few minutes, 2 GB)"; \
	      $$python -m venv .venv && exit 0; \
	      echo "$$python cannot make an environment: install its venv module (on Debian and Ubuntu: python3-venv)." >&2; \
	      rm -rf .venv; exit 1; \
	    fi; \
	  done; \
	  echo "No Python 3.11, 3.12 or 3.13 was found: install one, or name it with make PYTHON=/path/to/python." >&2; \
	  exit 1; \
	fi
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --constraint constraints.txt \
	  --editable ".[dev]"
	@.venv/bin/python -c "from dark.core.hook import install_hook; install_hook()"
	@touch $@

# What is installed now becomes what everybody installs. Labels of local builds (+cpu) are of this machine and left out.
pins:
	.venv/bin/python -m pip freeze --exclude-editable | sed 's/+[^ ]*//' > constraints.new
	sed -n '/;/p' constraints.txt | sed '/^#/d' >> constraints.new  # of other systems
	sed -n '/^#/p' constraints.txt > constraints.head
	sort --ignore-case constraints.new | cat constraints.head - > constraints.txt
	rm constraints.new constraints.head

# Do the versions fit each other here, and is there a wheel of each for a Mac?
check-pins: $(STAMP)
	.venv/bin/python -m pip check
	.venv/bin/python -m pip install --quiet --dry-run --ignore-installed --constraint constraints.txt --editable ".[dev]"
	.venv/bin/python -m pip install --quiet --dry-run --no-deps --ignore-installed --target .venv/none \
	  --only-binary=:all: $(MAC:%=--platform macosx_%) --requirement constraints.txt

reproduce: $(STAMP)
	.venv/bin/dark_paper --profile phantom
	@echo "The report is figures/phantom/report.html"

# Processes that each take every core slow each other down: two of one thread.
test: export OMP_NUM_THREADS = 1
test: $(STAMP)
	.venv/bin/ruff check .
	# Two notebooks for readers are long, and run by tests/test_readers.py, at smaller sizes.
	.venv/bin/nbdev_test --n_workers 2 --skip_file_re '^([_.]|explore|tutorial)'
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --durations 15

test-hard: export OMP_NUM_THREADS = 2
test-hard: $(STAMP)
	.venv/bin/python -m pytest -m hard -s tests/hard

# playwright is no requirement of the rest; its own Chromium comes with: .venv/bin/playwright install --with-deps chromium
test-browser: $(STAMP)
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[browser]"
	.venv/bin/python -m pytest -m browser tests/browser

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(STAMP)
	.venv/bin/mkdocs build --quiet
	@echo "The site is _docs/index.html"

lab: $(STAMP)
	.venv/bin/jupyter lab nbs/index.ipynb

readme: $(STAMP)
	.venv/bin/python -c "from dark.paper.front import write_readme; write_readme()"

teachers: $(STAMP)
	.venv/bin/python -c "from dark.distil.teachers import ship_teachers; from dark.distil.voices import ship_misled; \
	  from dark.recipe import get_profile; print(ship_teachers(get_profile('phantom')), *ship_misled())"

students: $(STAMP)
	.venv/bin/python -c "from dark.distil.pack import pack_students; from dark.recipe import get_profile; \
	  print(pack_students(get_profile('phantom')))"

cards: $(STAMP)
	.venv/bin/python -c "from dark.data.datasheet import write_sheet; print(write_sheet())"

outputs: $(STAMP)
	.venv/bin/python -c "from dark.paper.outputs import keep_all_outputs; keep_all_outputs()"
	.venv/bin/nbdev_clean

publish: $(STAMP)
	.venv/bin/python -c "from dark.paper.publish import publish_stages; \
	  print('\n'.join(f'{stem}: {told}' for stem, told in publish_stages().items()))"
	.venv/bin/python -c "from dark.paper.publish import publish_reports; print('reports:', *publish_reports())"
	.venv/bin/nbdev_clean
	$(MAKE) readme

promises: $(STAMP)
	.venv/bin/python -m pytest tests/test_robust_*.py --promises figures/promises.csv

clean:
	rm -rf data/runs data/cache data/results/smoke.jsonl data/results/smoke.predictions figures/smoke
	rm -rf _docs tests/browser/shots
	rm -rf .pytest_cache .ruff_cache .hypothesis build dist dark_distillation.egg-info/__pycache__
	find dark tests -name __pycache__ -prune -exec rm -rf {} +
	find nbs -name .ipynb_checkpoints -prune -exec rm -rf {} +
