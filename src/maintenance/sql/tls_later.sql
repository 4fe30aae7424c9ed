-- $1 day  $2 domain. Given up when a day has gone by with tries (RFC 8460 3).
insert into postrider.tls_report as t (day, domain, state, tries, next_at)
values ($1, $2, 'open', 1, now() + interval '15 minutes')
on conflict (day, domain) do update
  set tries = t.tries + 1,
      state = case when t.tries >= 12 then 'failed' else 'open' end,
      next_at = now() + least(interval '15 minutes' * power(1.6, t.tries), interval '4 hours')
