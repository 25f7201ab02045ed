# The only door: `make` lists what it opens. The host needs make, git and a Docker engine (on Debian and Ubuntu even
# that is installed); all else runs in the runner container, which scripts/host/runner.sh builds and starts.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
# Each target is one runner; two at once in one clone would only wait for each other.
.NOTPARALLEL:
RUNNER := sh scripts/host/runner.sh
# What is typed reaches the runner as it is: make would expand a $ in it, and the shell what quotation marks let out.
WORDS := MODEL VERSION ALIAS A B WHY YES T SEED ONLY QUICK CMD FROM BASE NAME AFTER LIKE NEW EXPERIMENT STAGE JSON MD
# Rooms that not everyone needs: each has targets of its own, and can be deleted.
include $(wildcard scripts/*/targets.mk)
$(foreach word,$(WORDS),$(eval override $(word) := $$(value $(word))))
export $(WORDS)

# No target is a file: each name before a ## comment, as in help, is a command; a pattern is one by its need of `always`.
.PHONY: always $(shell sed -n 's/^\([a-z-]*\):.*\#\#.*/\1/p' $(MAKEFILE_LIST))

##@ Everyday

help: ## List the targets
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z%-]+:.*## / { sub("%", "<stage>", $$1); printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Train, evaluate, version, publish and promote: whatever is not up to date
	@$(RUNNER) run

run-%: always ## Only this stage and what it depends on
	@$(RUNNER) run $*

publish: ## Publish the models on disk; runs no stage
	@$(RUNNER) publish

push: ## Send the data and the run-cache to DVC's remote
	@$(RUNNER) push

pull: ## Fetch them from there
	@$(RUNNER) pull

run-push: run push ## run, then push

##@ Look (JSON=1 prints tables for programs, MD=1 as Markdown)

status: ## What a run would do with each stage, in a line, and whether the model at hand is published
	@$(RUNNER) status "json=$$JSON" "md=$$MD"

explain: ## Why each stage would run, or would not: before anything does; STAGE= one of them, JSON=1 for programs
	@$(RUNNER) explain "stage=$$STAGE" "json=$$JSON"

dag: ## The pipeline as a graph
	@$(RUNNER) exec dvc dag

metrics: ## The numbers of the metrics files, beside those of HEAD
	@$(RUNNER) metrics "json=$$JSON" "md=$$MD"

plots: ## Draw the plots into dvc_plots/index.html; BASE=main those of that commit beside them
	@$(RUNNER) plots "base=$$BASE"

ui: ## Where MLflow is; starts it if it is local
	@$(RUNNER) ui

doctor: ## Look at all that a run needs; changes nothing
	@$(RUNNER) doctor

shell: ## A shell in the runner, in which the commands of dvc.yaml work as they stand
	@$(RUNNER) shell

##@ Models (MODEL= selects one; VERSION= or ALIAS= names a version)

models: ## The versions in the registry: stage, score, commit, why; ALL=1: also old ones of many
promote: ## Put VERSION= into production
rollback: ## Back to the production before this one, or to VERSION=
lineage: ## From a version to its run, commit, images, params and each data file's place
compare: ## Versions A= and B= side by side; without B=, A and production
reproduce: ## Run a version's code again, and compare each output

models promote rollback lineage compare reproduce:
	@$(RUNNER) $@ "model=$$MODEL" "version=$${VERSION:-$$ALIAS}" "a=$$A" "b=$$B" "why=$$WHY" "yes=$$YES" \
	  "json=$$JSON" "md=$$MD" "all=$$ALL"

##@ Set up (make run does it by itself)

setup: setup-env setup-dvc ## .env and dvc.yaml

setup-env: ## .env from .env.example, if there is none
	@$(RUNNER) setup_env

setup-dvc: ## dvc.yaml from its template, and DVC's remote
	@$(RUNNER) setup_dvc

dagshub-connect: ## Make a DagsHub repository that mirrors this GitHub repository; asks first
	@$(RUNNER) dagshub_connect "$$YES"

upgrade: ## Bring a newer version of the machinery, FROM=url-or-path, into this fork; asks first
	@sh scripts/host/upgrade.sh "$$FROM" "$$BASE"

build: ## Build the images that are missing; with IMAGE_REGISTRY, pull those that it has
	@$(RUNNER) build

push-images: ## Send the stage images to IMAGE_REGISTRY, for other machines to pull
	@$(RUNNER) push_images

##@ Make it yours

new-stage: ## Add a stage NAME= that reads what AFTER= writes; LIKE= one that there is
	@$(RUNNER) new_stage "name=$$NAME" "after=$$AFTER" "like=$$LIKE"

rename: ## Call the model MODEL= and its experiment EXPERIMENT= (by default the same); FROM= selects one of several
	@$(RUNNER) rename "model=$$MODEL" "experiment=$$EXPERIMENT" "from=$$FROM"

start: ## NEW=1: take the example out, for a pipeline of your own with one small stage; asks first
	@$(RUNNER) start "new=$$NEW" "name=$$NAME" "yes=$$YES"

##@ Develop

test: ## All tests, on the real engine; T=path only those of a file or folder
	@$(RUNNER) test "T=$$T"
	@$(if $(T),,$(RUNNER) test_stage)

test-unit: ## The tests that need no container
	@$(RUNNER) test -m 'not docker and not deep'

test-deep: ## All tests of the machinery, every exhaustive product whole: hours; T=path some of them
	@$(RUNNER) test -m '' "T=$$T"

test-%: always ## A stage's own tests, in its own image (base: those of the stage kit)
	@$(RUNNER) test_stage $* "T=$$T"

test-crash: ## Every process killed at every point of a run, and 100 random kills: an hour or two; SEED=n replays
	@sh tests/crash/with_engine.sh $(RUNNER) test -vv tests/crash $${SEED:+--seed=$$SEED}

bench: ## How fast, against what: an hour or two; ONLY=name,name some of it, QUICK=1 small
	@$(RUNNER) bench "only=$$ONLY" "quick=$$QUICK"

debug-%: always ## A shell in a stage's image, with its inputs there and its code live; CMD= runs that instead
	@$(RUNNER) debug $* "cmd=$$CMD"

check: ## Check each stage against its contract, and for what would make a result unstable; changes nothing
	@$(RUNNER) check

notebook: ## JupyterLab with the packages of a stage (the model's, or notebook-<stage>), until Ctrl-C
	@$(RUNNER) notebook

notebook-%: always ## With those of this stage
	@$(RUNNER) notebook $*

lint: ## Check style and shell scripts; changes nothing
	@$(RUNNER) lint

fmt: ## Format the code
	@$(RUNNER) fmt

lock: ## Resolve every requirements.in into its requirements.txt
	@$(RUNNER) lock

##@ Clean up

clean: ## Delete the outputs in the working tree (DVC's cache keeps them)
	@$(RUNNER) clean

down: ## Stop this clone's services, and give its network back
	@sh scripts/host/down.sh

clean-all: ## Delete what this clone made: containers, network, images, .local
	@sh scripts/host/clean_all.sh
