#!/usr/bin/env bash
# Brings up (or takes down) a real one-node Slurm cluster on 127.0.0.1, as root, without systemd.
#   slurm_up.sh up|down|status|stop-ctld|kill-ctld|restart-ctld
#     SLURM_DIR=/tmp/slurm-loop   where its files live        SLURM_CPUS=4   CPUs the node claims (more than real is fine)
#     SLURM_MEM=64000          MB the node claims (more than real is fine too)
#     SLURM_ACCT=none|db          db: accounting through slurmdbd and a private MariaDB, so that sacct works
# Needs (Debian 12: Slurm 22.05.8):  apt-get install -y slurm-wlm munge
#     and for SLURM_ACCT=db:         apt-get install -y slurmdbd mariadb-server slurm-wlm-mysql-plugin
# The three files are linked into /etc/slurm: Snakemake's Slurm plugins drop every SLURM_* variable (SLURM_CONF
# too) before they call srun, and a job then finds Slurm's configuration only in its default place.
set -euo pipefail
DIR=${SLURM_DIR:-/tmp/slurm-loop}
ACCT=${SLURM_ACCT:-none}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export SLURM_CONF=$DIR/slurm.conf
HOST=$(hostname -s)
FILES="slurm gres cgroup"

alive() { [ -s "$1" ] && kill -0 "$(cat "$1")" 2>/dev/null; }
wait_for() { # seconds, command...
  local n=$(( $1 * 10 )); shift
  until "$@" >/dev/null 2>&1; do n=$((n-1)); [ $n -gt 0 ] || { echo "timed out: $*" >&2; return 1; }; sleep 0.1; done
}
idle() { sinfo -h -N -o %T | grep -q -E '^(idle|mixed|allocated)$'; }

start_munge() {
  # the package's postinst made the key; /run may be fresh, so make its directory
  install -d -o munge -g munge -m 0755 /run/munge
  install -d -o munge -g munge -m 0700 /var/log/munge /var/lib/munge
  [ -s /etc/munge/munge.key ] || { mungekey --create --force; chown munge: /etc/munge/munge.key; chmod 0400 /etc/munge/munge.key; }
  munge -n </dev/null 2>/dev/null | unmunge >/dev/null 2>&1 && return 0
  setpriv --reuid munge --regid munge --clear-groups /usr/sbin/munged
  wait_for 10 sh -c 'munge -n </dev/null | unmunge'
}
start_db() {
  local my=$DIR/mysql sql="mariadb --no-defaults -S $DIR/mysql/mysql.sock -u root"
  if [ ! -d "$my/mysql" ]; then
    install -d -o mysql -g mysql "$my"
    mariadb-install-db --no-defaults --user=mysql --datadir="$my" --auth-root-authentication-method=normal --skip-test-db >"$DIR/mysql-install.log" 2>&1
  fi
  if ! alive "$DIR/mysql.pid"; then
    mariadbd --no-defaults --user=mysql --datadir="$my" --socket="$DIR/mysql/mysql.sock" --pid-file="$my/mysql.pid" --skip-networking \
      --innodb-buffer-pool-size=64M --innodb-lock-wait-timeout=900 >"$DIR/mysql.log" 2>&1 &
    echo $! > "$DIR/mysql.pid"
  fi
  wait_for 30 $sql -e 'select 1'
  $sql -e "create database if not exists slurm_acct_db; create user if not exists slurm@localhost identified by 'slurm'; grant all on slurm_acct_db.* to slurm@localhost"
  ( umask 077; cat > "$DIR/slurmdbd.conf" <<EOF
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=${SLURM_PORT_DBD:-6819}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$DIR/slurmdbd.log
PidFile=$DIR/slurmdbd.pid
DebugLevel=info
CommunicationParameters=NoInAddrAny
EOF
  )
  ln -sfn "$DIR/slurmdbd.conf" /etc/slurm/slurmdbd.conf
  # libmariadb looks for its default socket when the host is "localhost"
  install -d /run/mysqld; ln -sfn "$DIR/mysql/mysql.sock" /run/mysqld/mysqld.sock
  alive "$DIR/slurmdbd.pid" || SLURM_CONF=$DIR/slurm.conf slurmdbd
  wait_for 60 sacctmgr -n -i list cluster
  sacctmgr -n list cluster format=cluster%20 | grep -q -w loop || sacctmgr -i -Q add cluster loop
  sacctmgr -n list account format=account%20 | grep -q -w lab || sacctmgr -i -Q add account lab Description=lab Organization=lab
  sacctmgr -n list assoc where user=root account=lab format=user%20 | grep -q -w root || sacctmgr -i -Q add user root Account=lab
}
write_conf() {
  install -d -m 0755 "$DIR" "$DIR/ctld" "$DIR/d" /etc/slurm
  local mem acct=accounting_storage/none extra=""
  mem=${SLURM_MEM:-$(( $(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 - 512 ))}
  [ "$ACCT" = none ] || { acct=accounting_storage/slurmdbd; extra="AccountingStorageHost=127.0.0.1\nAccountingStoragePort=${SLURM_PORT_DBD:-6819}\nAccountingStoreFlags=job_comment\nAccountingStorageTRES=gres/gpu"; }
  sed -e "s|@HOST@|$HOST|g" -e "s|@DIR@|$DIR|g" -e "s|@CPUS@|${SLURM_CPUS:-4}|g" -e "s|@MEM@|$mem|g" \
      -e "s|@PORT_CTLD@|${SLURM_PORT_CTLD:-6817}|g" -e "s|@PORT_D@|${SLURM_PORT_D:-6818}|g" \
      -e "s|@ACCT@|$acct|" -e "s|@ACCT_EXTRA@|$extra|" "$HERE/slurm.conf.in" > "$SLURM_CONF"
  # a stand-in GPU: Slurm only needs a character device it can name
  echo "NodeName=$HOST Name=gpu Type=fake File=/dev/null" > "$DIR/gres.conf"
  printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\n' > "$DIR/cgroup.conf"
  local f; for f in $FILES; do ln -sfn "$DIR/$f.conf" "/etc/slurm/$f.conf"; done
}
start_ctld() { alive "$DIR/slurmctld.pid" || slurmctld "$@"; wait_for 30 sh -c 'scontrol ping | grep -q UP'; }
start_d()    { alive "$DIR/slurmd.pid" || slurmd -N "$HOST"; }
stop() { # pid file, signal
  [ -s "$1" ] || return 0
  local p; p=$(cat "$1"); kill "${2:--TERM}" "$p" 2>/dev/null || true
  wait_for 20 sh -c "! kill -0 $p" || true; rm -f "$1"
}

case ${1:-up} in
  up)
    start_munge; write_conf
    [ "$ACCT" = none ] || start_db
    start_ctld -i; start_d
    wait_for 30 idle || { tail -n 20 "$DIR/slurmctld.log" "$DIR/slurmd.log" >&2; exit 1; }
    sinfo -o '%P %t %c %m %G' ;;
  down)
    [ ! -s "$DIR/slurmctld.pid" ] || scancel --user=root --quiet 2>/dev/null || true
    stop "$DIR/slurmd.pid"; stop "$DIR/slurmctld.pid"; stop "$DIR/slurmdbd.pid"; stop "$DIR/mysql.pid"
    for f in $FILES slurmdbd; do [ "$(readlink "/etc/slurm/$f.conf" || true)" != "$DIR/$f.conf" ] || rm "/etc/slurm/$f.conf"; done ;;
  stop-ctld) stop "$DIR/slurmctld.pid" ;;
  kill-ctld) stop "$DIR/slurmctld.pid" -KILL ;;   # loses what it has not yet saved (up to ~5 s)
  restart-ctld) start_ctld ;;
  status) sinfo -o '%P %t %c %m %G'; squeue ;;
  *) echo "usage: $0 up|down|status|stop-ctld|kill-ctld|restart-ctld" >&2; exit 2 ;;
esac
