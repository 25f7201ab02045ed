##@ The model in use (SERVING.md; MODEL= selects one, ALIAS= or VERSION= a version, by default production)

WORDS += IN OUT SHADOW

predict: ## Predict for the rows of the table IN=, into OUT=
	@$(RUNNER) predict "in=$$IN" "out=$$OUT" "model=$$MODEL" "version=$$VERSION" "alias=$$ALIAS"

serve: ## A server on 127.0.0.1 that follows production, until Ctrl-C; SHADOW=staging asks a second version as well
	@$(RUNNER) serve "model=$$MODEL" "version=$$VERSION" "alias=$$ALIAS" "shadow=$$SHADOW"

model-image: ## An image of server and model that needs nothing else
	@$(RUNNER) model_image "model=$$MODEL" "version=$$VERSION" "alias=$$ALIAS"

push-image: ## The same, and send it to IMAGE_REGISTRY
	@$(RUNNER) push_image "model=$$MODEL" "version=$$VERSION" "alias=$$ALIAS"
