#!/usr/bin/env bash
# Start a Slurm of one node on the loopback address, for tests; no accounting, so no sacct.
#
#   start_one_node.sh FOLDER    prints nothing and returns once the node is idle; needs root and the
#                               Debian packages slurm-wlm and munge. Then: export SLURM_CONF=FOLDER/slurm.conf
#   start_one_node.sh FOLDER stop
#
# Partitions low (the default) and high: a job in high takes the node from one in low, which Slurm
# puts back into the queue.
set -euo pipefail
folder=$(realpath -m "$1")
export SLURM_CONF=$folder/slurm.conf

stop() {
    for name in slurmd slurmctld munged; do
        [ -f "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        while kill "$pid" 2>/dev/null; do sleep 0.2; done
    done
}

if [ "${2:-}" = stop ]; then
    stop
    exit
fi
trap stop ERR

mkdir -p "$folder"/{state,spool}
chmod 711 "$folder"                               # munged runs as another user, in a room of its own
install -d -o munge -g munge -m 711 "$folder/munge"
head -c 1024 /dev/urandom >"$folder/munge/key"
chown munge "$folder/munge/key"
chmod 600 "$folder/munge/key"

# Prints a port that nothing listens on.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

cores=$(getconf _NPROCESSORS_ONLN)                # nproc would heed OMP_NUM_THREADS
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
AuthType=auth/munge
# A job that goes back into the queue waits for cred_expire; by default two minutes.
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=20
MinJobAge=300
SlurmctldTimeout=60
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=$cores RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=ALL MaxTime=60 PriorityTier=10 PreemptMode=OFF
CONF

runuser -u munge -- munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/munged.pid" --log-file="$folder/munge/munged.log" \
    --seed-file="$folder/munge/seed"
ln -sf "$folder/munge/munged.pid" "$folder/munged.pid"
slurmctld
slurmd
for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%t --partition=low 2>/dev/null)" = idle ] && exit
    sleep 0.5
done
echo "the node did not become idle; see $folder/slurmctld.log and $folder/slurmd.log" >&2
stop
exit 1
