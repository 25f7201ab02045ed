##@ Sweeps (SWEEPS.md)

WORDS += FILE TRIAL SWEEP RM ON
ifeq ($(origin RM),default)
RM := # make's own says rm -f
endif

sweep: ## Try the parameters of FILE= (sweep.yaml), JOBS= at a time, or ON=airflow; RM=id deletes one
	@$(RUNNER) sweep "file=$$FILE" "rm=$$RM" "on=$$ON"

sweeps: ## List the sweeps of this clone
	@$(RUNNER) sweeps

keep: ## Write the winner's values, or those of TRIAL=, into params.yaml; SWEEP= another sweep's than the last one's
	@$(RUNNER) keep "trial=$$TRIAL" "sweep=$$SWEEP"
