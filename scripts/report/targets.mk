##@ Reports

WORDS += RUN LIVE

report: ## Print where the last run's report is; RUN= another's, LIVE=1, JSON=1, MD=1; BASE=origin/main: a branch's
	@$(RUNNER) $(if $(BASE),report_base "base=$$BASE",report) "run=$$RUN" "json=$$JSON" "md=$$MD" "live=$$LIVE"

log: ## List the runs here; A= and B= two of them side by side; JSON=1 for programs
	@$(RUNNER) log "a=$$A" "b=$$B" "json=$$JSON"
