# The only door: `make` lists what it opens. The host needs make, git and a Docker engine (on Debian and Ubuntu even
# that is installed); all else runs in the runner container, which scripts/runner.sh builds and starts.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
# Each target is one runner; two at once in one clone would only wait for each other.
.NOTPARALLEL:

RUNNER := sh scripts/runner.sh

##@ Everyday

.PHONY: help
help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z%-]+:.*## / { sub("%", "<stage>", $$1); printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Train, evaluate, version, publish and promote: whatever is not up to date
	@$(RUNNER) run

run-%: ## Only this stage and what it depends on
	@$(RUNNER) run $*

.PHONY: push
push: ## Send the data and the run-cache to DVC's remote
	@$(RUNNER) push

.PHONY: pull
pull: ## Fetch them from there
	@$(RUNNER) pull

.PHONY: run-push
run-push: run push ## run, then push

##@ Look

.PHONY: status
status: ## What the next run would run
	@$(RUNNER) exec dvc status

.PHONY: dag
dag: ## The pipeline as a graph
	@$(RUNNER) exec dvc dag

.PHONY: metrics
metrics: ## The numbers of the model at hand
	@$(RUNNER) exec dvc metrics show

.PHONY: plots
plots: ## Draw the plots into dvc_plots/index.html
	@$(RUNNER) exec dvc plots show

.PHONY: ui
ui: ## Where MLflow is; starts it if it is local
	@$(RUNNER) services ui

.PHONY: doctor
doctor: ## Look at all that a run needs; changes nothing
	@$(RUNNER) doctor

.PHONY: shell
shell: ## A shell in the runner, in which the commands of dvc.yaml work as they stand
	@$(RUNNER) shell

##@ Set up (make run does it by itself)

.PHONY: setup
setup: setup-env setup-dvc ## .env and dvc.yaml

.PHONY: setup-env
setup-env: ## .env from .env.example, if there is none
	@$(RUNNER) setup_env

.PHONY: setup-dvc
setup-dvc: ## dvc.yaml from its template, and DVC's remote
	@$(RUNNER) setup_dvc

.PHONY: build
build: ## Build the images that are missing
	@$(RUNNER) build

##@ Develop

.PHONY: test
test: ## All tests, on the real engine
	@$(RUNNER) test

.PHONY: test-unit
test-unit: ## The tests that need no container
	@$(RUNNER) test -m 'not docker'

.PHONY: lint
lint: ## Check style and shell scripts; changes nothing
	@$(RUNNER) lint

.PHONY: fmt
fmt: ## Format the code
	@$(RUNNER) fmt

.PHONY: lock
lock: ## Resolve every requirements.in into its requirements.txt
	@$(RUNNER) lock

##@ Clean up

.PHONY: clean
clean: ## Delete the outputs in the working tree (DVC's cache keeps them)
	@$(RUNNER) clean

.PHONY: down
down: ## Stop this clone's services
	@$(RUNNER) services down

.PHONY: clean-all
clean-all: ## Delete what this clone made: containers, network, images, .local
	@YES="$(YES)" sh scripts/clean_all.sh
