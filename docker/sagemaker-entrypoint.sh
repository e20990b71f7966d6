#!/usr/bin/env bash
# Starts the launcher from the variables that SageMaker's Hugging Face containers define, on SageMaker's port.
# The arguments are not looked at: SageMaker always gives the word "serve".
set -euo pipefail

if [[ -z "${HF_MODEL_ID:-}" ]]; then
    echo "HF_MODEL_ID is not set: give a Hub id, or the folder of a model such as /opt/ml/model" >&2
    exit 1
fi
export MODEL_ID="${HF_MODEL_ID}"

# rename FROM TO: gives a variable its launcher name, if it says anything.
rename() {
    if [[ -n "${!1:-}" ]]; then
        export "$2=${!1}"
    fi
}
rename HF_MODEL_REVISION REVISION
rename SM_NUM_GPUS NUM_SHARD
rename HF_MODEL_QUANTIZE QUANTIZE
rename HF_MODEL_TRUST_REMOTE_CODE TRUST_REMOTE_CODE

# exec: the launcher gets SageMaker's SIGTERM, and stops in good order.
exec text-generation-launcher --port 8080
