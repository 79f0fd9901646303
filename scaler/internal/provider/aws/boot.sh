# What follows needs a POSIX shell and the usual small programs, of any distribution.
# It says what it does in /var/log/farmhand-boot.log.
set -eu
umask 077
exec >>/var/log/farmhand-boot.log 2>&1
fail() { echo "farmhand: $*"; exit 1; }
again() { # TRIES COMMAND...: until it succeeds, a second between two tries
  tries=$1; shift
  until "$@"; do tries=$((tries - 1)); [ "$tries" -gt 0 ] || return 1; sleep 1; done
}
fetch() { # URL FILE
  if command -v curl >/dev/null; then curl -fsS --proto =https --max-time 300 -o "$2" "$1"
  elif command -v wget >/dev/null; then wget -q -T 300 -O "$2" "$1"
  else fail "neither curl nor wget is there to fetch $1"; fi
}
metadata() { # PATH, by IMDSv2
  if command -v curl >/dev/null; then
    t=$(curl -fsS --max-time 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/latest/api/token") &&
      curl -fsS --max-time 5 -H "X-aws-ec2-metadata-token: $t" "$IMDS/latest/meta-data/$1"
  else
    t=$(wget -q -T 5 -O - --method=PUT --header='X-aws-ec2-metadata-token-ttl-seconds: 60' "$IMDS/latest/api/token") &&
      wget -q -T 5 -O - --header="X-aws-ec2-metadata-token: $t" "$IMDS/latest/meta-data/$1"
  fi
}
put() { # PATH BASE64
  mkdir -p "${1%/*}"
  printf %s "$2" | base64 -d | sed "s/@ADDRESS@/$ADDRESS/g" >"$1.new"
  mv "$1.new" "$1"
}
IMDS=${FARMHAND_IMDS:-http://169.254.169.254}
mkdir -p "$DIR/bin"
chmod 755 "$DIR" "$DIR/bin"
ADDRESS=$(again 60 metadata local-ipv4) || fail "the instance's address is not known"

if [ -n "$PROGRAMS" ] && [ ! -x "$DIR/bin/sidecar" ]; then
  again 10 fetch "$PROGRAMS" "$DIR/programs.tar.gz" || fail "$PROGRAMS cannot be fetched"
  echo "$SHA256  $DIR/programs.tar.gz" | sha256sum -c - || fail "$PROGRAMS is not what was expected"
  tar -xzf "$DIR/programs.tar.gz" -C "$DIR/bin"
  chmod 755 "$DIR"/bin/*
  rm "$DIR/programs.tar.gz"
fi
[ -x "$DIR/bin/sidecar" ] || fail "$DIR/bin/sidecar is not there: build it into the image, or give provider.parameters.programs"

# An image that was made of one of the farm's instances (scaler rebundle) has what was
# that one's alone. It goes before anything of this one's is there.
ROOT=${FARMHAND_ROOT:-}
CLOUD_ID=/var/lib/cloud/data/instance-id
OWN=$(cat "$CLOUD_ID" 2>/dev/null || true)
if [ -e "$DIR/start" ] && ! grep -q "^OWN='$OWN'\$" "$DIR/start"; then
  rm -rf "$DIR/node" "$DIR/state" "$DIR/secrets" "$DIR/token" "$DIR/start" "$DIR/start.formatted"
  rm -f "$ROOT"/root/.*history "$ROOT"/home/*/.*history "$ROOT/var/lib/dbus/machine-id" "$ROOT/etc/machine-id"
  if command -v systemd-machine-id-setup >/dev/null; then systemd-machine-id-setup --root="$ROOT/"
  else tr -d - </proc/sys/kernel/random/uuid >"$ROOT/etc/machine-id"; chmod 444 "$ROOT/etc/machine-id"; fi
  # cloud-init has made new ones already, unless it was told not to.
  find "$ROOT/etc/ssh" -name 'ssh_host_*' ! -newer "$CLOUD_ID" -exec rm -f {} + || true
  if command -v ssh-keygen >/dev/null && [ -d "$ROOT/etc/ssh" ]; then ssh-keygen -A -f "$ROOT"; fi
  echo "farmhand: what another instance had left in the image was removed"
fi

files

# What runs at each start of the machine: the volume is mounted, then the sidecar runs.
cat >"$DIR/start" <<END
#!/bin/sh
set -eu
OWN='$OWN'
CLOUD_ID='$CLOUD_ID'
VOLUME='$VOLUME' INSTANCE='$INSTANCE' DATA='$DATA' DISKS='$DISKS' FRESH='$FRESH' FILE_SYSTEM='$FILE_SYSTEM' LAYOUT='$LAYOUT'
END
cat >>"$DIR/start" <<'END'
fail() { echo "farmhand: $*" >&2; exit 1; }
# Before its own first start has cleaned up, what runs from an image of another instance
# would pass for that one.
[ "$(cat "$CLOUD_ID" 2>/dev/null || true)" = "$OWN" ] || fail "this is the start of instance $OWN, and it is another one"
device() { # VOLUME-ID: the disk with that serial number
  plain=$(echo "$1" | tr -d -)
  for d in /sys/block/*; do
    serial=$(cat "$d/device/serial" "$d/serial" 2>/dev/null | tr -d ' \n' || true)
    case $serial in "$plain"*) echo "/dev/${d##*/}"; return;; esac
  done
  return 1
}
if [ -n "$VOLUME" ]; then
  devices= n=0
  for id in $DISKS; do
    until d=$(device "$id"); do
      n=$((n + 1)); [ "$n" -lt 600 ] || fail "disk $id of volume $VOLUME was not attached within 10 minutes"
      sleep 1
    done
    devices="$devices $d"
  done
  set -- $devices
  if ! blkid "$1" >/dev/null 2>&1; then
    command -v blkid >/dev/null || fail "blkid is not there: whether volume $VOLUME has a file system is not known"
    [ ! -e "$0.formatted" ] || fail "volume $VOLUME had a file system, and has none any more"
    [ "$FRESH" = true ] || fail "volume $VOLUME has no file system, and yet somebody had it: it is not made anew"
    if [ $# -gt 1 ]; then mkfs.btrfs -q -d "$LAYOUT" -m "$LAYOUT" "$@"
    elif [ "$FILE_SYSTEM" = any ]; then if command -v mkfs.xfs >/dev/null; then mkfs.xfs -q "$1"; else mkfs.ext4 -q "$1"; fi
    else "mkfs.$FILE_SYSTEM" -q "$1"; fi
    : >"$0.formatted"
  fi
  mkdir -p "$DATA"
  if ! grep -q " $DATA " /proc/mounts; then
    options=noatime
    for d in "$@"; do [ $# -eq 1 ] || options="$options,device=$d"; done
    case $(blkid -o value -s TYPE "$1") in ext*) fsck -p "$1" || [ $? -le 1 ] || fail "the file system of volume $VOLUME is damaged";; esac
    mount -o "$options" "$1" "$DATA"
  fi
  case $(blkid -o value -s TYPE "$1") in # it may have grown
    xfs) xfs_growfs "$DATA" >/dev/null || true;;
    ext*) resize2fs "$1" >/dev/null 2>&1 || true;;
    btrfs) n=1; for d in "$@"; do btrfs filesystem resize "$n:max" "$DATA" >/dev/null || true; n=$((n + 1)); done;;
  esac
  chmod 755 "$DATA"
  printf '{"volume":"%s","instance":"%s","epoch":1}\n' "$VOLUME" "$INSTANCE" >"$DATA/.farmhand-volume"
  chmod 644 "$DATA/.farmhand-volume"
fi
END
cat >>"$DIR/start" <<END
exec '$DIR/bin/sidecar' run '$CONFIG'
END
chmod 755 "$DIR/start"

if [ -d /run/systemd/system ]; then
  cat >/etc/systemd/system/farmhand-sidecar.service <<END
[Unit]
Description=Farmhand sidecar
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0
[Service]
ExecStart=$DIR/start
Restart=always
RestartSec=1
KillMode=process
TimeoutStopSec=120
TimeoutStartSec=infinity
StandardOutput=null
[Install]
WantedBy=multi-user.target
END
  systemctl daemon-reload
  systemctl enable --now --no-block farmhand-sidecar.service
else
  # cloud-init runs what is here at each start, whatever starts the rest.
  mkdir -p /var/lib/cloud/scripts/per-boot
  cat >/var/lib/cloud/scripts/per-boot/farmhand-sidecar <<END
#!/bin/sh
(trap '' HUP; while :; do '$DIR/start' >/dev/null 2>>/var/log/farmhand-sidecar.log </dev/null || true; sleep 1; done) &
END
  chmod 755 /var/lib/cloud/scripts/per-boot/farmhand-sidecar
  /var/lib/cloud/scripts/per-boot/farmhand-sidecar
fi
echo "farmhand: the sidecar of $INSTANCE was started"
