#!/bin/sh
# Images: a folder of 500 PNG files is the output of one stage and the input of the next, and the model is a folder too.
# Called at the top of a clone: sh tests/forks/images/apply.sh
set -eu
here=$(dirname "$0")

rm -r stages/ingest stages/preprocess stages/train stages/evaluate
cp -R "$here/stages" .
cp "$here/dvc.yaml.template" "$here/params.yaml" .
