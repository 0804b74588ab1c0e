#!/bin/sh
# One model on the GPUs of several machines, for models that are too large for one machine.
#
#   deploy/multi_node.sh turbomind RANK     on each machine, RANK 0 to MACHINES - 1
#   deploy/multi_node.sh pytorch head       on the first machine, which serves requests
#   deploy/multi_node.sh pytorch worker     on each of the others, before the first
#
# Clients connect to the first machine. All machines need the same LMDeploy (0.12 or later), the same
# weights at the same path, and a fast network between them. Settings:
set -eu

MODEL=${MODEL:-Qwen/Qwen2.5-72B-Instruct}
HEAD=${HEAD:?set it to the address of the first machine, such as 10.0.0.1}
MACHINES=${MACHINES:-2}
GPUS=${GPUS:-8}                  # of each machine
PORT=${PORT:-29500}              # rendezvous port of the machines
KEY=${AGENTCALL_API_KEY:?set it to the key that clients will need}

serve() {
    exec lmdeploy serve api_server "$MODEL" --server-name 0.0.0.0 --server-port 23333 \
        --tp $((MACHINES * GPUS)) --enable-prefix-caching --api-keys "$KEY" "$@"
}

case "${1:-} ${2:-}" in
"turbomind "[0-9]*)
    serve --backend turbomind --communicator nccl \
        --nnodes "$MACHINES" --node-rank "$2" --dist-init-addr "$HEAD:$PORT"
    ;;
"pytorch head")
    ray start --head --port "$PORT" --num-gpus "$GPUS"
    serve --backend pytorch --distributed-executor-backend ray
    ;;
"pytorch worker")
    exec ray start --address "$HEAD:$PORT" --num-gpus "$GPUS" --block
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
