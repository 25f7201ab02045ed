##@ Beyond one machine (BEYOND.md)

airflow: ## Start Airflow with a worker on this machine, and say where it is
	@$(RUNNER) airflow

airflow-run: ## Run the commit at hand there; WAIT=1 follows it to its end
	@$(RUNNER) airflow_run

airflow-worker: ## Join the Airflow of another machine as a worker
	@$(RUNNER) airflow_worker

airflow-test: ## The tests of it on two engines, as on two machines, with kills: an hour; T=path others
	@sh tests/airflow/with_engines.sh $(RUNNER) test -vv -m '' "$${T:-tests/airflow/test_machines.py}"

airflow-stage: ## What a task of Airflow does: fetch what STAGE= needs, run it alone, push its result
	@exec $(RUNNER) airflow_stage "stage=$$STAGE"
