#!/usr/bin/env bash
# The front-end libraries of lago_skills/explorer/web/vendor, again: pinned, from npm, each with its licence. Nothing of this runs at install time.
set -euo pipefail
target=$(cd "$(dirname "$0")/.." && pwd)/lago_skills/explorer/web/vendor
tests=$(cd "$(dirname "$0")/.." && pwd)/tests/browser
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund regl-scatterplot@1.16.0 regl@2.1.1 pub-sub-es@3.0.0 uplot@1.6.32 axe-core@4.14.1 esbuild@0.28.2
echo 'export { default as createScatterplot } from "regl-scatterplot";' > map.js
npx esbuild map.js --bundle --minify --format=iife --global-name=scatterplot --target=es2020 --outfile="$target/regl-scatterplot.min.js"
cp node_modules/uplot/dist/uPlot.iife.min.js "$target/uplot.min.js"
cp node_modules/uplot/dist/uPlot.min.css "$target/uplot.min.css"
cp node_modules/axe-core/axe.min.js "$tests/axe.min.js"
for name in regl-scatterplot regl pub-sub-es uplot dom-2d-camera camera-2d-simple gl-matrix earcut regl-line @flekschas/utils; do
  echo "==== $name $(node -p "require('./node_modules/$name/package.json').version") ===="
  cat "node_modules/$name"/LICENSE*
  echo
done > "$target/LICENSES.txt"
