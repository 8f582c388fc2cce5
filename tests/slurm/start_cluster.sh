#!/usr/bin/env bash
# A Slurm of one node, here, without systemd or cgroups:
#   start_cluster.sh install         Debian's packages, where they are missing and this is root
#   start_cluster.sh start FOLDER    munged, slurmctld and slurmd, with all their files in FOLDER
#   start_cluster.sh stop FOLDER     ends those three
# Between start and stop: export SLURM_CONF=FOLDER/slurm.conf
set -euo pipefail

PATH=$PATH:/usr/sbin

installed() {
    local program
    for program in sbatch slurmctld slurmd munged; do command -v "$program" >/dev/null || return 1; done
}

install() {
    if installed; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Slurm is not installed. On Debian: apt-get install slurm-wlm munge" >&2
        return 1
    fi
    # A package's own daemons are not wanted: nothing of this machine is to change but its programs.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    timeout 240 apt-get update -qq
    timeout 240 apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

configure() { # FOLDER
    local folder=$1 host
    host=$(hostname -s)
    mkdir -p "$folder"/{state,spool,munge}
    chmod 700 "$folder"/munge
    head -c 64 /dev/urandom >"$folder"/munge/key
    chmod 600 "$folder"/munge/key
    cat >"$folder"/slurm.conf <<CONF
ClusterName=hvgtest
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
# A job that starts anew waits until the credential of its last start is void: two minutes, unless told otherwise.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,sched_min_interval=0,batch_sched_delay=0,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
# What has ended stays known for as long as tests may take on a busy machine.
MinJobAge=3600
# More tasks than cores may run here; they only have to be right.
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=high Nodes=$host PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE State=UP
CONF
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

start() { # FOLDER
    local folder
    folder=$(realpath -m "$1")
    configure "$folder"
    export SLURM_CONF=$folder/slurm.conf
    munged --force --key-file="$folder"/munge/key --socket="$folder"/munge/socket --pid-file="$folder"/munged.pid \
        --log-file="$folder"/munged.log --seed-file="$folder"/munge/seed
    slurmctld -c -f "$SLURM_CONF"
    slurmd -c -f "$SLURM_CONF"
    for _ in $(seq 60); do
        if sinfo --noheader --format %T 2>/dev/null | grep -q idle; then return; fi
        sleep 0.5
    done
    tail -n 20 "$folder"/*.log >&2
    stop "$folder"
    return 1
}

stop() { # FOLDER
    local folder name pid
    folder=$(realpath -m "$1")
    SLURM_CONF=$folder/slurm.conf scancel --signal=KILL --full --user="$(id -un)" 2>/dev/null || true
    # By the ids that they wrote themselves: another Slurm may run here.
    for name in slurmd slurmctld munged; do
        [ -f "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 50); do running "$pid" || break; sleep 0.1; done
        if running "$pid"; then kill -KILL "$pid"; fi
    done
}

# In a container nobody may wait for a process that ended.
running() { [[ "$(ps -o stat= -p "$1")" == [!Z]* ]]; } # PID

"$@"
