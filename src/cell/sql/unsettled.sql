-- What of the tenant $1 (lanes $2) still moves: rows in the hot tables, and leases with who holds them.
select exists (select 1 from postrider.ready where lane_id = any ($2))
       or exists (select 1 from postrider.deferred where tenant_id = $1)
       or exists (select 1 from postrider.dead_letter where tenant_id = $1) as waiting,
       (select count(*) from postrider.lease where tenant_id = $1) as leased,
       (select string_agg(distinct format('%s (session %s, silent for %s s)', s.worker, s.session_id,
          extract(epoch from now() - s.beat_at)::int), ', ')
        from postrider.lease l join postrider.worker_session s using (session_id) where l.tenant_id = $1) as holders
