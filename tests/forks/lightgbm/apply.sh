#!/bin/sh
# Another library: LightGBM says how likely a flower is a virginica. It needs a package from PyPI and one of Debian's,
# which only the images of train and evaluate have. Its model is a text file in LightGBM's own format.
# Called at the top of a clone: sh tests/forks/lightgbm/apply.sh
set -eu
here=$(dirname "$0")

rm -r stages/train stages/evaluate
cp -R "$here/stages" .
cp "$here/dvc.yaml.template" "$here/params.yaml" .
