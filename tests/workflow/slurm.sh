#!/usr/bin/env bash
# A Slurm cluster of one node on this machine's loopback, for the tests. As root, with Debian's slurm-wlm and munge:
#
#   tests/workflow/slurm.sh start FOLDER    configuration, logs and state go into FOLDER
#   tests/workflow/slurm.sh stop FOLDER     ends the daemons that were started there, by their numbers
#
# While it runs, /etc/slurm/slurm.conf is a link to FOLDER/slurm.conf, for jobs lose SLURM_CONF; a machine that has that
# file already belongs to another cluster and is left alone.
set -euo pipefail
command=$1 folder=$(mkdir -p "$2" && cd "$2" && pwd)
sbin=/usr/sbin
usual=/etc/slurm/slurm.conf

start() {
  if [ -e "$usual" ]; then
    echo "$usual exists: this machine belongs to a cluster" >&2
    return 1
  fi
  mkdir -p "$folder"/{state,munge}
  head -c 1024 /dev/urandom > "$folder/munge/key"
  chmod 700 "$folder/munge" && chmod 400 "$folder/munge/key"
  # Paths of sockets are short, wherever the folder lies: the key's, and those of jobs in the spool. The folders above
  # them must belong to root.
  socket=$(mktemp -d /run/reconfair-munge-XXXXXX)/socket
  chmod 755 "${socket%/*}"
  "$sbin/munged" --force --num-threads 1 --key-file "$folder/munge/key" --socket "$socket" \
    --pid-file "$folder/munged.pid" --log-file "$folder/munge/log" --seed-file "$folder/munge/seed"
  cat > "$folder/slurm.conf" <<EOF
ClusterName=reconfair
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
SlurmctldPort=$((20000 + RANDOM % 5000))
SlurmdPort=$((25000 + RANDOM % 5000))
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
StateSaveLocation=$folder/state
SlurmdSpoolDir=${socket%/*}/spool
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0
MinJobAge=600
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(free -m | awk '/^Mem/ {print $2}')
PartitionName=local Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
  ln -s "$folder/slurm.conf" "$usual"
  "$sbin/slurmctld"
  "$sbin/slurmd" -N localhost
  for _ in $(seq 60); do
    if [ "$(sinfo --noheader --format %t 2> /dev/null)" = idle ]; then
      return
    fi
    sleep 0.5
  done
  echo "the node did not become idle; see $folder/*.log" >&2
  return 1
}

stop() {
  for daemon in slurmd slurmctld munged; do
    if [ -s "$folder/$daemon.pid" ]; then kill "$(cat "$folder/$daemon.pid")" 2> /dev/null || true; fi
  done
  if [ "$(readlink "$usual")" = "$folder/slurm.conf" ]; then rm "$usual"; fi
  rm -rf "$(dirname "$(sed -n 's/^AuthInfo=socket=//p' "$folder/slurm.conf")")"
}

"$command"
