#!/usr/bin/env bash
# What one GPU is asked, in stages with their own time limits; results are written as they come.
#
#   benchmarks/gpu/run.sh                       all stages, ten minutes on one H100 or H200
#   benchmarks/gpu/run.sh tests cost-1.3b       these alone: device tests cost-1.3b cost-14b pretrain
#   benchmarks/gpu/run.sh options               what attention, compiling and checkpointing pay (five minutes more)
#   REHEARSE=1 benchmarks/gpu/run.sh            the same path at small size, on a processor
#
# OUT (runs/gpu) is the folder of results: a log for each stage, and summary.jsonl with its exit status and seconds (124: out
# of time; what it had measured by then is kept, and the same command goes on). PYTHON is the interpreter (python).
# A machine without network needs the wheels of constraints.txt: see benchmarks/gpu/README.md.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath -m "${OUT:-runs/gpu}")
python=${PYTHON:-python}
rehearse=${REHEARSE:-}
mkdir -p "$out"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
cores=$(nproc --all)

# stage NAME SECONDS COMMAND...
stage() {
  local name=$1 limit=$2 begin=$SECONDS
  [ -z "$rehearse" ] || limit=$((limit * 6)) # a processor that others use too
  shift 2
  echo "== $name (at most $limit s): $*"
  timeout --signal=INT --kill-after=10 "$limit" "$@" >"$out/$name.log" 2>&1
  local status=$?
  printf '{"stage": "%s", "status": %d, "seconds": %d, "limit": %d, "rehearsal": %s}\n' \
    "$name" "$status" $((SECONDS - begin)) "$limit" "$([ -n "$rehearse" ] && echo true || echo false)" >>"$out/summary.jsonl"
  echo "== $name: status $status after $((SECONDS - begin)) s"
  tail -n 3 "$out/$name.log" | sed 's/^/   /'
}

cost() { # MODEL
  if [ -n "$rehearse" ]; then
    "$python" -m ipa_bench cost embedded --shapes 32x32x5 --methods sft --dtype fp32 --rank 4 --steps 2 --out "$out/cost-$1"
  else
    "$python" -m ipa_bench cost "wan2.1-vace-$1" --random-weights --shapes 480x832x17,480x832x49,480x832x81 \
      --checkpointing on --rank 128 --out "$out/cost-$1"
  fi
}

options() {
  local shape="wan2.1-vace-1.3b --random-weights --shapes 480x832x49 --rank 128 --methods sft,generate --checkpointing on"
  local attention=native,flash,cudnn kept="--checkpointing attention"
  if [ -n "$rehearse" ]; then
    shape="embedded --shapes 32x32x5 --dtype fp32 --rank 4 --steps 2 --methods sft"
    attention=native,math
  fi
  # the small changes first, each beside the same plain cells of one sheet
  # shellcheck disable=SC2086
  "$python" -m ipa_bench cost $shape --attention $attention --out "$out/options" &&
    "$python" -m ipa_bench cost $shape $kept --out "$out/options" &&
    { [ -n "$rehearse" ] || "$python" -m ipa_bench cost $shape --compile on --out "$out/options"; }
}

run() {
  case $1 in
    device) stage device 60 bash -c 'nvidia-smi || true; "$0" -m ipa_bench doctor || true; "$0" -m pip list' "$python" ;;
    tests)
      if [ -n "$rehearse" ]; then stage tests 120 "$python" -m pytest -q -n0 -m gpu tests/cost
      else stage tests 120 "$python" -m pytest -q -n0 -m gpu; fi ;;
    cost-1.3b | cost-14b)
      export -f cost
      export python rehearse out
      stage "$1" "$([ "$1" = cost-14b ] && echo 180 || echo 150)" bash -c "cost ${1#cost-}" ;;
    options)
      export -f options
      export python rehearse out
      stage options 300 bash -c options ;;
    pretrain)
      local config=trainers/configs/tiny_gpu.toml
      [ -n "$rehearse" ] && config=benchmarks/gpu/rehearsal.toml
      stage pretrain 540 "$python" -m ipa_bench embedded pretrain "$config" --out "$out/pretrain" --jobs "$cores" --world-ahead ;;
    *) echo "no stage $1: device tests cost-1.3b cost-14b pretrain options" >&2; exit 2 ;;
  esac
}

[ $# -gt 0 ] || set -- device tests cost-1.3b cost-14b pretrain
for each in "$@"; do run "$each"; done
cat "$out/summary.jsonl"
