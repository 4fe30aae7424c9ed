-- Attempts of day $1 (UTC) in the partition $2 from page $3 to before page $4, one JSON object
-- each. By pages, so that no snapshot is held and nothing is sorted: attempts are only added.
select json_build_object(
         'message', postrider.written_id('msg_', a.message_id), 'delivery', postrider.written_id('dlv_', a.job_id),
         'tenant', t.name, 'to', j.recipient, 'at', a.at, 'attempt', a.attempt,
         'outcome', (array['delivered', 'bounced', 'expired', 'suppressed', 'cancelled', 'dead_lettered',
                           'deferred', 'interrupted', 'reported'])[a.kind],
         'in_doubt', a.in_doubt, 'code', a.code, 'next_at', a.next_at, 'detail', a.detail)::text
from postrider.attempt a
left join postrider.tenant t using (tenant_id)
left join postrider.job j using (job_id)
where a.at >= $1::date::timestamp at time zone 'UTC' and a.at < ($1::date + 1)::timestamp at time zone 'UTC'
  and a.tableoid = $2::text::regclass
  and a.ctid >= format('(%s,0)', $3::bigint)::tid and a.ctid < format('(%s,0)', $4::bigint)::tid
