"""What make calls: a module a verb, each with `main(arguments)`; `python -m scripts VERB` runs one."""
