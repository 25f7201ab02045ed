# Airflow's targets, and the verb that one of its tasks is.

##@ Beyond one machine (BEYOND.md)

airflow-stage: ## What a task of Airflow does: fetch what STAGE= needs, run it alone, push its result
	@exec $(RUNNER) airflow_stage "stage=$$STAGE"
