// Load on the API: baseline, spike or soak (docs/capacity.md).
//
//   k6 run -e SCENARIO=baseline -e API=http://127.0.0.1:8025 -e KEY="$KEY" -e FROM=a@shop.example bench/k6/submit.js
//
// Requests begin by the clock, whether or not those before have ended, so a slow answer is not
// hidden by the wait of the next one. Point the installation's route at a sink first.
import http from 'k6/http';
import { check } from 'k6';
import exec from 'k6/execution';

const rate = Number(__ENV.RATE || 200);
const recipients = Number(__ENV.RECIPIENTS || 1);
const open = (more) => ({
  executor: 'ramping-arrival-rate', startRate: rate, timeUnit: '1s',
  preAllocatedVUs: Math.max(50, rate), maxVUs: rate * 20, ...more,
});
const scenarios = {
  // A steady rate.
  baseline: open({ stages: [{ target: rate, duration: __ENV.DURATION || '5m' }] }),
  // Ten times as much within ten seconds, for a minute; then as before.
  spike: open({
    stages: [
      { target: rate, duration: '1m' }, { target: rate * 10, duration: '10s' },
      { target: rate * 10, duration: '1m' }, { target: rate, duration: '10s' },
      { target: rate, duration: '3m' },
    ],
  }),
  // Half of it, for hours: what grows, shows.
  soak: open({ startRate: rate / 2, stages: [{ target: rate / 2, duration: __ENV.DURATION || '4h' }] }),
};
const name = __ENV.SCENARIO || 'baseline';

export const options = {
  scenarios: { [name]: scenarios[name] },
  thresholds: {
    // Objectives 1 and 2 (docs/slo.md). In a spike callers may be told to wait.
    'checks{check:taken}': [name === 'spike' ? 'rate>0.95' : 'rate>0.999'],
    'http_req_duration{expected_response:true}': ['p(99)<250'],
    dropped_iterations: ['count==0'],
  },
};

export default function () {
  const n = exec.scenario.iterationInTest;
  const to = [];
  for (let r = 0; r < recipients; r += 1) {
    to.push({ to: `r${n}-${r}@example.org`, vars: { name: 'Ann', order: n } });
  }
  const answer = http.post(`${__ENV.API}/v1/messages`, JSON.stringify({
    from: __ENV.FROM, subject: 'Order {{ order }}', stream: __ENV.STREAM || 'transactional',
    text: 'Hello {{ name }}, your order {{ order }} is on its way.', recipients: to,
  }), {
    headers: {
      Authorization: `Bearer ${__ENV.KEY}`, 'Content-Type': 'application/json',
      'Idempotency-Key': `${__ENV.RUN || 'k6'}-${n}`,
    },
  });
  check(answer, { taken: (a) => a.status === 202, 'an id': (a) => a.status !== 202 || a.json('id') !== '' });
}
