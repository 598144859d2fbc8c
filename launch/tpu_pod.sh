#!/usr/bin/env bash
# One run on all hosts of a Cloud TPU slice, from nothing to its report.
#
#   export TPU=stgrpo ZONE=us-west4-a ACCELERATOR=v5litepod-16 NFS=10.0.0.2:/share
#   launch/tpu_pod.sh create                # asks for the slice, and waits until it is there
#   launch/tpu_pod.sh install               # copies this checkout to every host, installs it, mounts NFS at /mnt/stgrpo
#   launch/tpu_pod.sh run --config=configs/qwen2_5.py:1.5b,burger --workdir=/mnt/stgrpo/runs/burger \
#     --config.model.path=/mnt/stgrpo/Qwen2.5-1.5B-Instruct
#   launch/tpu_pod.sh follow                # what process 0 says; an interrupt ends the following, not the run
#   launch/tpu_pod.sh fetch /mnt/stgrpo/runs/burger/report.html
#   launch/tpu_pod.sh stop                  # all hosts save after the same step; `run` with the same options goes on
#   launch/tpu_pod.sh delete                # gives the slice back; what lies on NFS stays
#
# Needs gcloud, signed in, and an NFS share that the slice's network reaches (a Filestore instance): the work directory lies
# on it, and so does the model. PROJECT is gcloud's own where it is not given; RUNTIME (v2-alpha-tpuv5-lite) is the image that
# goes with ACCELERATOR; SPOT=1 asks for a slice that may be taken back.
# On each host the run is a unit of systemd: it outlives the connection, and starts again after a failure, up to RESTARTS
# (10) times, and when it was asked to end (75), but not after a mistake in what was given (2).
# DRY_RUN=1 prints each command instead of running it.
set -euo pipefail

refuse() {
    echo "launch: $*" >&2
    exit 2
}

run() {
    if [[ -n ${DRY_RUN:-} ]]; then
        printf '%q ' "$@"
        echo
    else
        "$@"
    fi
}

tpu=${TPU:-} zone=${ZONE:-} share=/mnt/stgrpo
where=("--zone=$zone")
if [[ -n ${PROJECT:-} ]]; then
    where+=("--project=$PROJECT")
fi

on() { # WORKER COMMAND: on one host of the slice, or on `all`
    run gcloud compute tpus tpu-vm ssh "$tpu" "${where[@]}" "--worker=$1" "--command=$2"
}

create() {
    [[ -n ${ACCELERATOR:-} ]] || refuse "ACCELERATOR is missing: give a slice such as ACCELERATOR=v5litepod-16"
    local ask=(gcloud compute tpus queued-resources create "$tpu" "${where[@]}" "--node-id=$tpu"
        "--accelerator-type=$ACCELERATOR" "--runtime-version=${RUNTIME:-v2-alpha-tpuv5-lite}")
    if [[ -n ${SPOT:-} ]]; then
        ask+=(--spot)
    fi
    run "${ask[@]}"
    ask=(gcloud compute tpus queued-resources describe "$tpu" "${where[@]}" "--format=value(state.state)")
    if [[ -n ${DRY_RUN:-} ]]; then
        run "${ask[@]}"
        return
    fi
    local state=''
    while [[ $state != ACTIVE ]]; do
        state=$("${ask[@]}")
        echo "launch: $tpu is $state"
        case $state in
        ACTIVE) ;;
        FAILED | SUSPENDED) refuse "$tpu will not come: see what \`gcloud compute tpus queued-resources describe\` says" ;;
        *) sleep 30 ;;
        esac
    done
}

install() {
    [[ -n ${NFS:-} ]] || refuse "NFS is missing: give the share that all hosts mount, such as NFS=10.0.0.2:/share"
    local here archive mount
    here=$(cd "$(dirname "$0")/.." && pwd)
    archive=${TMPDIR:-/tmp}/stgrpo.tar.gz
    run tar -czf "$archive" -C "$here" --exclude=./.git --exclude='./.venv*' --exclude=./.compilers --exclude=./runs .
    run gcloud compute tpus tpu-vm scp "$archive" "$tpu:stgrpo.tar.gz" "${where[@]}" --worker=all
    on all "mkdir -p stgrpo && tar -xzf stgrpo.tar.gz -C stgrpo && python3 -m pip install --quiet --user uv && \
~/.local/bin/uv venv --quiet --clear --python 3.12 stgrpo-env && \
~/.local/bin/uv pip install --quiet --python stgrpo-env/bin/python './stgrpo[tpu]'"
    printf -v mount 'sudo mount -t nfs %q %q' "$NFS" "$share"
    on all "sudo apt-get -qq update && sudo apt-get -qq install -y nfs-common && sudo mkdir -p $share && \
{ mountpoint -q $share || { $mount && sudo chmod 1777 $share; }; }"
}

start() {
    local arguments workdir='' i
    for ((i = 1; i <= $#; i++)); do
        case ${!i} in
        --workdir=*) workdir=${!i#*=} ;;
        --workdir) arguments=$((i + 1)) && workdir=${!arguments:-} ;;
        esac
    done
    [[ $workdir == "$share"/* ]] ||
        refuse "--workdir=$workdir is not on the file system that all hosts share: give one such as --workdir=$share/runs/burger"
    local stage=run
    if [[ $1 == [a-z]* ]]; then
        stage=$1
        shift
    fi
    printf -v arguments '%q ' "$stage" --distributed_timeout=600 "$@" --distributed=auto
    on all "sudo systemctl reset-failed stgrpo 2>/dev/null; cd stgrpo && sudo systemd-run --unit=stgrpo \
--uid=\$(id -u) --setenv=HOME=\$HOME --working-directory=\$PWD --property=LimitMEMLOCK=infinity \
--property=TimeoutStopSec=600 --property=Restart=on-failure --property=RestartSec=60 --property=RestartPreventExitStatus=2 \
--property=StartLimitIntervalSec=infinity --property=StartLimitBurst=$((${RESTARTS:-10} + 1)) \
\$HOME/stgrpo-env/bin/stgrpo $arguments"
}

follow() { # ends with the run, and with its status
    on 0 "sudo journalctl --unit=stgrpo --output=cat --lines=100 --follow & reader=\$!; \
while systemctl is-active stgrpo | grep -qE '^(de)?activ'; do sleep 5; done; sleep 1; \
sudo kill \$reader; exit \$(systemctl show stgrpo --property=ExecMainStatus --value)"
}

fetch() { # FILE [HERE]
    [[ -n ${1:-} ]] || refuse "a file is missing: give one such as $share/runs/burger/report.html"
    run gcloud compute tpus tpu-vm scp "$tpu:$1" "${2:-.}" "${where[@]}" --worker=0
}

action=${1:-}
shift || true
[[ $action =~ ^(create|install|run|follow|fetch|stop|delete)$ ]] ||
    refuse "action '$action' is unknown: create, install, run, follow, fetch, stop or delete"
[[ -n $tpu && -n $zone ]] || refuse "TPU or ZONE is missing: give a name and where it is, such as TPU=stgrpo ZONE=us-west4-a"
case $action in
create) create ;;
install) install ;;
run) start "$@" ;;
follow) follow ;;
fetch) fetch "$@" ;;
stop) on all "sudo systemctl stop stgrpo" ;;
delete) run gcloud compute tpus queued-resources delete "$tpu" "${where[@]}" --force --quiet ;;
esac
