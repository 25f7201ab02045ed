"""What make calls: a module a verb, each with `main(arguments)`; `python -m scripts VERB` runs one."""

import sys

# The image forbids bytecode, for the stages' folders; without that of scripts/ a short command takes a tenth longer.
sys.dont_write_bytecode = False
