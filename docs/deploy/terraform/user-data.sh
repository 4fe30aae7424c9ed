#!/bin/bash
# First boot: secrets from SSM, the daemon, and two small units: one tells what /scale suggests, the
# other drains when the group wants the instance back.
set -euo pipefail
install -d -m 0750 /etc/postrider /etc/credstore
aws ssm get-parameter --region "${region}" --with-decryption --name "${prefix}/key" \
  --query Parameter.Value --output text | install -m 0600 /dev/stdin /etc/postrider/key
aws ssm get-parameter --region "${region}" --with-decryption --name "${prefix}/database-password" \
  --query Parameter.Value --output text | install -m 0600 /dev/stdin /etc/credstore/postrider.database-password

cat >/usr/local/bin/postrider-tell <<'SCRIPT'
#!/bin/bash
set -euo pipefail
suggested=$(curl -fs http://127.0.0.1:9025/scale | jq .replicas.suggested)
aws cloudwatch put-metric-data --region "${region}" --namespace postrider \
  --metric-name SuggestedReplicas --value "$suggested"
SCRIPT
cat >/usr/local/bin/postrider-drain <<'SCRIPT'
#!/bin/bash
# Asks the instance's own metadata whether it is to end; then stops in order and says that it has.
set -euo pipefail
metadata() {
  local token
  token=$(curl -fs -X PUT http://169.254.169.254/latest/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
  curl -fs -H "X-aws-ec2-metadata-token: $token" "http://169.254.169.254/latest/meta-data/$1"
}
[ "$(metadata autoscaling/target-lifecycle-state)" = Terminated ] || exit 0
systemctl stop postriderd            # SIGTERM: no new claims, what is in hand is finished
aws autoscaling complete-lifecycle-action --region "${region}" --auto-scaling-group-name postriderd \
  --lifecycle-hook-name drain --lifecycle-action-result CONTINUE --instance-id "$(metadata instance-id)"
SCRIPT
chmod 0755 /usr/local/bin/postrider-tell /usr/local/bin/postrider-drain
for what in tell:30 drain:5; do
  name=$${what%%:*}; every=$${what##*:}
  printf '[Unit]\nDescription=postrider: %s\n[Service]\nType=oneshot\nExecStart=/usr/local/bin/postrider-%s\n' \
    "$name" "$name" >"/etc/systemd/system/postrider-$name.service"
  printf '[Timer]\nOnBootSec=60\nOnUnitActiveSec=%s\nAccuracySec=1\n[Install]\nWantedBy=timers.target\n' \
    "$every" >"/etc/systemd/system/postrider-$name.timer"
done
systemctl daemon-reload
systemctl enable --now postriderd postrider-tell.timer postrider-drain.timer
