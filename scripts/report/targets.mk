##@ Reports

WORDS += RUN LIVE

report: ## Print where the last run's report is (RUN= another one's); JSON=1, MD=1 its text; LIVE=1 while it goes on
	@$(RUNNER) report "run=$$RUN" "json=$$JSON" "md=$$MD" "live=$$LIVE"

log: ## List the runs here; A= and B= two of them side by side; JSON=1 for programs
	@$(RUNNER) log "a=$$A" "b=$$B" "json=$$JSON"
