-- $1 job
select j.job_id, j.message_id, j.recipient, j.expires_at,
  coalesce(f.due_at, case when h.kind is null and d.job_id is null and l.job_id is null and m.send_at > now()
                     then m.send_at end) as due_at, d.reason as dead_reason, d.detail as dead_detail,
  coalesce(h.at, d.dead_at) as ended_at,
  coalesce(h.attempts, 0)::int as attempts,
  case
    when h.kind is not null then (array['delivered', 'bounced', 'expired', 'suppressed', 'cancelled'])[h.kind]
    when d.job_id is not null then 'dead_lettered'
    when l.job_id is not null then 'sending'
    when f.job_id is not null then case when f.attempt = 0 then 'scheduled' else 'deferred' end
    when m.send_at > now() then 'scheduled'
    else 'queued'
  end as state,
  coalesce(h.history, '[]'::json)::text as history
from postrider.job j
join postrider.message m using (message_id)
left join lateral (
  -- kind is listed in full, so that the index (message, kind, job) finds one job among millions.
  select json_agg(json_build_object('at', a.at, 'attempt', a.attempt, 'kind', a.kind, 'in_doubt', a.in_doubt,
    'code', a.code, 'next_at', a.next_at, 'detail', a.detail) order by a.at, a.attempt) as history,
    -- A delivery has one end at most (kinds 1 to 5), so max only picks it.
    max(a.attempt) as attempts, max(a.kind) filter (where a.kind <= 5) as kind, max(a.at) filter (where a.kind <= 5) as at
  from postrider.attempt a
  where a.message_id = j.message_id and a.kind = any('{1,2,3,4,5,6,7,8,9}'::smallint[]) and a.job_id = j.job_id
    and a.at >= m.created_at
) h on true
left join postrider.dead_letter d on d.message_id = j.message_id and d.job_id = j.job_id
left join (postrider.worker_session w join postrider.lease l using (session_id)) on l.job_id = j.job_id
left join postrider.deferred f on f.job_id = j.job_id
where j.job_id = $1
