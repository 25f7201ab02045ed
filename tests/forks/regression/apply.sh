#!/bin/sh
# Regression: gradient-boosted trees that predict how diabetes progresses. Better is a lower RMSE, and surely so.
# Called at the top of a clone: sh tests/forks/regression/apply.sh
set -eu
here=$(dirname "$0")

rm -r stages/ingest stages/preprocess stages/train stages/evaluate
cp -R "$here/stages" .
cp "$here/dvc.yaml.template" "$here/params.yaml" .
