#!/bin/sh
# A SLURM cluster of two nodes for as long as a command runs.
#
#   tests/slurm/up.sh FOLDER COMMAND [ARGUMENT ...]
#
# FOLDER (empty, or absent) gets keys, logs and states. Both nodes are this machine, and claim more processors, memory and GPUs
# than it has. Everything runs in namespaces of its own: a network that has nothing but loopback, an /etc/slurm that nobody else
# sees, and process numbers whose first one is this script, so that the kernel ends all of it with the script, even by a kill -9.
# Needs root, and Debian's packages: apt-get install slurm-wlm munge
set -eu

if [ "${1:-}" != --inside ]; then
    for tool in munged slurmctld slurmd unshare ip; do
        if ! command -v "$tool" > /dev/null; then
            echo "up.sh: $tool is missing: apt-get install slurm-wlm munge" >&2
            exit 69
        fi
    done
    exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc -- "$0" --inside "$@"
fi

folder=$(realpath -m -- "$2")
shift 2
mkdir -p "$folder/run" "$folder/log" "$folder/state" "$folder/spool/n1" "$folder/spool/n2"
# munged refuses a folder for its socket that others may write to.
chmod 755 "$folder" "$folder/run"
ip link set lo up
# No name can be looked up on a machine whose only addresses are those of loopback. This one is kept for documentation.
ip address add 192.0.2.1/32 dev lo
# A name that every machine can look up without a network.
echo localhost > /proc/sys/kernel/hostname

# SLURM's default place: inside a job, the Snakemake plug-in drops SLURM_CONF.
mkdir -p /etc/slurm
mount -t tmpfs tmpfs /etc/slurm
cat > /etc/slurm/slurm.conf <<END
ClusterName=stdc
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job starts once the credentials of its first start have expired: two minutes, where nothing is said.
AuthInfo=socket=$folder/run/munge.sock,cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
MpiDefault=none
# No cgroups: they need more rights, and nothing here is confined.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
# Nodes may claim more than the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
# Finished jobs stay visible to squeue.
MinJobAge=3600
# Seconds from SIGTERM to SIGKILL. A training needs some to save on a busy machine.
KillWait=30
SchedulerParameters=sched_interval=2,bf_interval=5,batch_sched_delay=0
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port=17001 CPUs=16 RealMemory=64000 Gres=gpu:2
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port=17002 CPUs=16 RealMemory=64000 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=2-0 State=UP
PartitionName=short Nodes=n1,n2 MaxTime=60 State=UP
END
# A GPU has to be a device; these are further names of /dev/null.
mkdir -p "$folder/dev"
for number in 0 1 2 3; do
    mknod -m 666 "$folder/dev/gpu$number" c 1 3
done
cat > /etc/slurm/gres.conf <<END
NodeName=n1 Name=gpu File=$folder/dev/gpu[0-1]
NodeName=n2 Name=gpu File=$folder/dev/gpu[2-3]
END

head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.sock" --pid-file="$folder/run/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/run/munge.seed" > "$folder/log/start.log" 2>&1
slurmctld >> "$folder/log/start.log" 2>&1
slurmd -N n1 >> "$folder/log/start.log" 2>&1
slurmd -N n2 >> "$folder/log/start.log" 2>&1
deadline=$(($(date +%s) + 30))
until [ "$(timeout -s KILL 5 sinfo -h -p main -t idle -o %D 2> /dev/null)" = 2 ]; do
    if [ "$(date +%s)" -gt "$deadline" ]; then
        echo "up.sh: the nodes did not come up within 30 s; logs: $folder/log" >&2
        exit 70
    fi
    sleep 0.2
done

# Not exec: the first process of the namespace has to outlive the command, and ends the rest with itself.
status=0
"$@" || status=$?
exit "$status"
