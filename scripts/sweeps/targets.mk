##@ Sweeps (SWEEPS.md)

WORDS += FILE TRIAL SWEEP RM
ifeq ($(origin RM),default)
RM := # make's own says rm -f
endif

sweep: ## Try the parameters of FILE= (sweep.yaml), JOBS= stages at a time; RM=id deletes what is kept of a sweep
	@$(RUNNER) sweep "file=$$FILE" "rm=$$RM"

sweeps: ## List the sweeps of this clone
	@$(RUNNER) sweeps

keep: ## Write the winner's values, or those of TRIAL=, into params.yaml; SWEEP= another sweep's than the last one's
	@$(RUNNER) keep "trial=$$TRIAL" "sweep=$$SWEEP"
